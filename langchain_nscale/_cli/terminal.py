"""Text from elsewhere, made harmless for terminals."""

from __future__ import annotations

import sys
from typing import TextIO

_PICTURES = 0x2400  # U+2400 to U+241F are pictures of the C0 controls
_DELETE, _DELETE_PICTURE = 0x7F, "\u2421"
_LAST_C1 = 0x9F
_REPLACEMENT = "\ufffd"
# U+2028 and U+2029 end lines; the others reverse the order of what is displayed.
_INVISIBLE = "\u2028\u2029\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
_TABLE = {
    **{code: chr(_PICTURES + code) for code in range(0x20) if chr(code) not in "\n\t"},
    _DELETE: _DELETE_PICTURE,
    **dict.fromkeys(range(_DELETE + 1, _LAST_C1 + 1), _REPLACEMENT),
    **dict.fromkeys(map(ord, _INVISIBLE), _REPLACEMENT),
    ord("\r"): None,  # part of a line end, or a way to overwrite the line
}


def harmless(text: str) -> str:
    """Replace control characters, except newlines and tabs, by visible ones.

    Models, servers and files write the text; as escape sequences they could set the
    clipboard or the title, hide text, or clear the screen.
    """
    return text.translate(_TABLE)


def text_for(stream: TextIO, text: str) -> str:
    """Return a text as it may be written to a stream: pipes get it unchanged."""
    return harmless(text) if stream.isatty() else text


def echo(text: str, *, err: bool = False) -> None:
    """Print a line of text from elsewhere."""
    stream = sys.stderr if err else sys.stdout
    stream.write(text_for(stream, text) + "\n")
    stream.flush()
