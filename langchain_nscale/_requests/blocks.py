"""Content blocks in the forms of LangChain and of all providers."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

from langchain_nscale._json import to_json_text

# The types under which providers send text. Of such a block only the text is sent.
_TEXT_TYPES = {"text", "input_text", "output_text", "text-plain"}
_IMAGE_TYPES = {"image", "image_url", "input_image", "media"}
_IMAGE_KEYS = ("image", "image_url", "inline_data")
# Keys that hold the bytes of a file, and keys that hold an object with such keys.
_DATA_KEYS = ("base64", "data", "bytes", "file_data", "b64_json", "partial_image_b64")
_INNER_KEYS = ("source", "file", "image", "document", "inline_data", "input_audio")
_MAX_JSON = 20_000  # characters of a block that is sent as JSON


def is_text(block: Any) -> bool:
    """Return whether a block is text."""
    if isinstance(block, str):
        return True
    if not isinstance(block, Mapping):
        return False
    kind = block.get("type")
    has_text = isinstance(block.get("text"), str)
    return (kind in _TEXT_TYPES or kind is None) and (
        has_text or (kind in _TEXT_TYPES and block.get("text") is None)
    )


def as_text(block: Any) -> str:
    """Return the text of a block that is text."""
    return block if isinstance(block, str) else block.get("text") or ""


def describe(block: Any) -> str:
    """Describe a block in words: plain data as JSON, a file by kind, name and type."""
    if not isinstance(block, Mapping):
        return to_json_text(block)
    inner = [block, *(block[key] for key in _INNER_KEYS if _is_mapping(block.get(key)))]
    kind = str(block.get("type") or "block")
    has_data = any(
        isinstance(source.get(key), (str, bytes)) and source.get(key)
        for source in inner
        for key in _DATA_KEYS
    )
    if has_data and not _is_text_source(inner):
        facts = [
            str(source[key])
            for source in inner
            for key in ("name", "filename", "title", "mime_type", "media_type")
            if isinstance(source.get(key), str)
        ]
        return f"[{' '.join(['omitted', kind, *dict.fromkeys(facts)])}]"
    text = to_json_text(block)
    return text if len(text) <= _MAX_JSON else text[:_MAX_JSON] + "…"


def _is_mapping(value: Any) -> bool:
    return isinstance(value, Mapping)


def _is_text_source(sources: list[Any]) -> bool:
    """Return whether the data of a document is text, as in Anthropic's text sources."""
    return any(
        source.get("type") == "text" or source.get("media_type") == "text/plain"
        for source in sources[1:]
    )


def is_image(block: Any) -> bool:
    """Return whether a block is an image in any provider's form."""
    if not isinstance(block, Mapping):
        return False
    kind = block.get("type")
    return kind in _IMAGE_TYPES or (
        kind is None and any(key in block for key in _IMAGE_KEYS)
    )


def as_image(block: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return an image in the API's form, or `None` if the block has none."""
    url = _image_url(block)
    if url is None:
        return None
    detail = block.get("detail")
    inner = block.get("image_url")
    if isinstance(inner, Mapping):
        detail = inner.get("detail", detail)
    image = {"url": url, "detail": detail} if detail else {"url": url}
    return {"type": "image_url", "image_url": image}


def _image_url(block: Mapping[str, Any]) -> str | None:
    """Return the URL of an image block in any provider's form, or `None`."""
    wire = block.get("image_url")
    if wire is not None:
        url = wire.get("url") if isinstance(wire, Mapping) else wire
        return url if _is_image_url(url) else None
    # "source" is Anthropic's key, "image" Bedrock's, "inline_data" Gemini's.
    for key in ("source", "image", "inline_data"):
        inner = block.get(key)
        if isinstance(inner, Mapping):
            return _image_url({"format": block.get("format"), **inner})
    if "url" in block:
        return block["url"] if _is_image_url(block["url"]) else None
    data = block.get("base64") or block.get("data") or block.get("bytes")
    mime = block.get("mime_type") or block.get("media_type")
    if mime is None and isinstance(block.get("format"), str):
        mime = f"image/{block['format']}"
    if not data or not isinstance(mime, str) or not mime.startswith("image/"):
        return None
    if isinstance(data, bytes):
        data = base64.b64encode(data).decode()
    return f"data:{mime};base64,{data}" if isinstance(data, str) else None


def _is_image_url(url: object) -> bool:
    if not isinstance(url, str):
        return False
    if url.startswith("data:"):
        return url.startswith("data:image/") and ";base64," in url[:100]
    return url.startswith(("http://", "https://"))


def reasoning_text(block: Mapping[str, Any]) -> str:
    """Return the text of a reasoning block in any provider's form."""
    for key in ("reasoning", "thinking", "text", "reasoning_content"):
        value = block.get(key)
        if isinstance(value, str):
            return value
        if isinstance(value, Mapping):  # Bedrock: {"reasoning_content": {"text": ...}}
            return reasoning_text(value)
    summary = block.get("summary")  # OpenAI Responses: [{"text": ...}]
    if isinstance(summary, list):
        texts = (s.get("text") for s in summary if isinstance(s, Mapping))
        return "\n".join(str(text or "") for text in texts)
    return ""
