"""Settings: their names, the connection, and those of chat models."""
