"""Software that is not ours: see `make test-real`."""
