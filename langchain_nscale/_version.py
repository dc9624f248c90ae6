"""The version of the package, and the name of its provider in LangChain."""

__version__ = "0.1.0"
PROVIDER = "nscale"
