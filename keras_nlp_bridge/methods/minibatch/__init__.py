"""Methods for samples that change at every step."""
