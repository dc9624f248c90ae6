"""What earlier versions have saved; see `make.py`."""
