"""Servers of others that break on purpose: `make chaos`."""
