"""Programs that show what the package is for."""
