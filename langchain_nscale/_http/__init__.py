"""The only package that performs network I/O."""
