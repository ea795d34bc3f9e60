"""Methods for one fixed sample."""
