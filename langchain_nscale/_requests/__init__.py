"""Outgoing data: LangChain objects to JSON. Pure: no I/O."""
