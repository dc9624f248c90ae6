"""A web chat with an agent behind it."""
