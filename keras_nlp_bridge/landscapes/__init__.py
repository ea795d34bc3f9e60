"""The objective around the weights."""
