"""The command line; `commands` has the commands, and a module for each has the work."""
