"""A stand-in for Nscale's API: a real HTTP server on loopback, for tests and demos.

Needs the extra `testing`: `pip install "langchain-nscale[testing]"`. With pytest, the
fixture `nscale_server` is available without an import.
"""

from langchain_nscale.testing._script import RecordedRequest, ServerReply, ToolCallReply
from langchain_nscale.testing._server import NscaleServer

__all__ = ["NscaleServer", "RecordedRequest", "ServerReply", "ToolCallReply"]
