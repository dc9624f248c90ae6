"""The command `batch`: many requests from a file, resumable."""
