"""Generators of parts of the documentation: `python -m scripts.NAME`."""
