"""Incoming data: bytes to LangChain objects. Pure: no I/O."""
