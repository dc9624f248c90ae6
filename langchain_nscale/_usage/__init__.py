"""Usage accounting. Pure: no LangChain callbacks, no I/O."""
