"""Running a method as SciPy runs its own."""
