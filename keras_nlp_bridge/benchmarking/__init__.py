"""Methods on problems, a row for each run."""
