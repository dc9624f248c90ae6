"""The interface between the reader and its writers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

if TYPE_CHECKING:
    from langchain_nscale._replies.reply import Reply
    from langchain_nscale._replies.whole import Delta

T_co = TypeVar("T_co", covariant=True)


class Writer(Protocol[T_co]):
    """Turns the deltas of a reply into items to yield."""

    def write(self, reply: Reply, deltas: Sequence[Delta]) -> Sequence[T_co]:
        """Return the items for the next deltas."""
        ...

    def finish(self, reply: Reply) -> Iterable[T_co]:
        """Return the items that end the reply."""
        ...


class BlockNumbers(dict[Any, int]):
    """Numbers the content blocks of a reply in the order in which they begin.

    The keys are `"text"`, `"reasoning"` and the index of each tool call: a reply has at
    most one text block and one reasoning block.
    """

    def number(self, key: object) -> int:
        """Return the number of a block, assigning the next one if it is new."""
        return self.setdefault(key, len(self))
