"""How one step is found."""
