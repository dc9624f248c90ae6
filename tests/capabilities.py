"""What Nscale's chat models can do, in the terms of LangChain's standard suites."""

from __future__ import annotations

from langchain_core.language_models import BaseChatModel

from langchain_nscale import ChatNscale


class Capabilities:
    """For both suites. Audio and PDF stay off: no chat model there takes them."""

    supports_image_inputs = True
    supports_image_urls = True
    supports_image_tool_message = True
    supports_anthropic_inputs = True
    supports_json_mode = True
    supports_model_override = True

    @property
    def chat_model_class(self) -> type[BaseChatModel]:
        return ChatNscale
