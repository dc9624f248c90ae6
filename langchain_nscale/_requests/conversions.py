"""Keeps conversions of tools and schemas, since agents repeat them in each round.

A conversion is kept for as long as its source exists, and reused if nothing has changed
on which it depends. Without this, binding 20 tools takes twice as long as with
`ChatOpenAI`, in each round of an agent.
"""

from __future__ import annotations

import copy
import inspect
import marshal
import weakref
from collections.abc import Callable, Hashable
from contextlib import suppress
from functools import partial
from typing import Any, NamedTuple

_MAX_DICTS = 512  # of which a strong reference is kept

_Key = tuple[int, Hashable]


class _Conversion(NamedTuple):
    """The result of a conversion."""

    # The source, or a weak reference to it. Its ID, which is the key, can't be reused
    # while this is alive.
    source: Any
    fingerprint: Any  # what the conversion depends on, as it was then
    # In marshal's format, so that each caller gets a separate copy, ten times as fast as
    # with `deepcopy`; `None` if the result equals the source.
    packed: bytes | None


_of_objects: dict[_Key, _Conversion] = {}
_of_dicts: dict[_Key, _Conversion] = {}


def are_equal(one: object, other: object) -> bool:
    """Return whether two objects are equal; those of other packages may not say."""
    try:
        return one is other or bool(one == other)
    except Exception:  # noqa: BLE001  # arrays, for one, can't be compared
        return False


def converted(
    source: Any, purpose: Hashable, convert: Callable[[], dict[str, Any]]
) -> dict[str, Any]:
    """Return a converted tool or schema, or a copy of an earlier result if there is one.

    It is the source itself if that is a dict that needs no change.
    """
    key = (id(source), purpose)
    if type(source) is dict:
        kept = _of_dicts.get(key)
        if kept and kept.source is source and are_equal(kept.fingerprint, source):
            return source if kept.packed is None else _unpacked(kept)
        return _keep_dict(key, source, convert())
    fingerprint = _fingerprint(source)
    if fingerprint is None:
        return convert()
    kept = _of_objects.get(key)
    if kept and kept.source() is source and are_equal(kept.fingerprint, fingerprint):
        return _unpacked(kept)
    return _keep_object(key, source, fingerprint, convert())


def _unpacked(kept: _Conversion) -> dict[str, Any]:
    result: dict[str, Any] = marshal.loads(kept.packed or b"")  # noqa: S302  # our own
    return result


def _keep_dict(
    key: _Key, source: dict[str, Any], result: dict[str, Any]
) -> dict[str, Any]:
    """Keep the conversion of a dict."""
    # Equality does not tell `True` from 1, so a value that changes from one to the other
    # within the same dict goes unnoticed.
    with suppress(ValueError, TypeError, RecursionError):  # unknown to marshal or copy
        packed = None if result == source else marshal.dumps(result)
        snapshot = copy.deepcopy(source)
        while len(_of_dicts) >= _MAX_DICTS:
            _of_dicts.pop(next(iter(_of_dicts)), None)
        _of_dicts[key] = _Conversion(source, snapshot, packed)
    return result


def _keep_object(
    key: _Key, source: Any, fingerprint: tuple[Any, ...], result: dict[str, Any]
) -> dict[str, Any]:
    with suppress(ValueError, TypeError):  # unknown to marshal, or no weak references
        reference = weakref.ref(source, partial(_forget, key))
        _of_objects[key] = _Conversion(reference, fingerprint, marshal.dumps(result))
    return result


def _forget(key: _Key, reference: Any) -> None:
    """Drop the conversion of a source that no longer exists."""
    kept = _of_objects.get(key)
    if kept and kept.source is reference:
        _of_objects.pop(key, None)


def _fingerprint(source: Any) -> tuple[Any, ...] | None:
    """Return what the conversion of a source depends on; `None` if that isn't known."""
    if inspect.isfunction(source):
        code = (source.__code__, source.__name__, source.__doc__, source.__defaults__)
        return (*code, dict(source.__kwdefaults__ or {}), _annotations(source))
    if isinstance(source, type):
        names = (source.__name__, source.__doc__, _annotations(source))
        return (*names, *_core_schema(source))
    name = getattr(source, "name", None)
    schema = getattr(source, "args_schema", None)
    if not isinstance(name, str) or not isinstance(schema, (type, dict, type(None))):
        return None
    content = copy.deepcopy(schema) if isinstance(schema, dict) else schema
    kind = (getattr(source, "metadata", None) or {}).get("type")
    description = getattr(source, "description", None)
    return (name, description, kind, content, *_core_schema(schema))


def _annotations(source: Any) -> dict[str, Any]:
    """Return annotations; none if they name something that doesn't exist (yet)."""
    with suppress(Exception):  # Python 3.14 evaluates them here
        return dict(source.__annotations__)
    return {}


def _core_schema(source: Any) -> tuple[Any, ...]:
    """Return a Pydantic class's schema object, which `model_rebuild` replaces."""
    schema = getattr(source, "__pydantic_core_schema__", None)
    return () if schema is None else (schema,)
