"""The provider name under which LangChain knows this package."""

PROVIDER = "nscale"
