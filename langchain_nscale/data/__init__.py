"""Data on the models."""
