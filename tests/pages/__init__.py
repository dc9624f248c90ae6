"""Runs the Python of the documentation and compares its output: see `runner`."""
