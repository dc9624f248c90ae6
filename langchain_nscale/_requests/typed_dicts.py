"""Makes TypedDicts with optional fields convertible for langchain-core."""

from __future__ import annotations

from functools import reduce
from operator import or_
from types import UnionType
from typing import Annotated, Any, get_args, get_origin

from typing_extensions import (
    NotRequired,
    ReadOnly,
    Required,
    TypedDict,
    get_type_hints,
    is_typeddict,
)

_QUALIFIERS = (NotRequired, Required, ReadOnly)


def with_defaults(schema: Any) -> Any:
    """Return a TypedDict with a default in place of each `NotRequired`.

    langchain-core (1.8) fails with a TypeError at `NotRequired` and `Required`; a default
    in `Annotated` is its own way to write an optional field. Any other schema, and a
    TypedDict without these, is returned as it is.
    """
    if not is_typeddict(schema) or not _is_qualified(schema, set()):
        return schema
    return _without_qualifiers(schema, {})


def _hints(schema: Any) -> dict[str, Any]:
    hints: dict[str, Any] = get_type_hints(schema, include_extras=True)
    return hints


def _is_qualified(hint: Any, seen: set[Any]) -> bool:
    if is_typeddict(hint):
        if hint in seen:
            return False
        seen.add(hint)
        return any(_is_qualified(inner, seen) for inner in _hints(hint).values())
    if get_origin(hint) in _QUALIFIERS:
        return True
    return any(_is_qualified(inner, seen) for inner in get_args(hint))


def _without_qualifiers(hint: Any, done: dict[Any, Any]) -> Any:
    """Return a type without qualifiers, also in the TypedDicts inside of it."""
    if is_typeddict(hint):
        return done[hint] if hint in done else _copy(hint, done)
    origin, args = get_origin(hint), get_args(hint)
    if origin in _QUALIFIERS:
        return _without_qualifiers(args[0], done)
    if origin is None or not any(map(_may_contain, args)):
        return hint
    if origin is Annotated:
        return Annotated[(_without_qualifiers(args[0], done), *args[1:])]
    inner = tuple(_without_qualifiers(arg, done) for arg in args)
    if origin is UnionType:
        return reduce(or_, inner)
    return hint.copy_with(inner) if hasattr(hint, "copy_with") else origin[inner]


_make: Any = TypedDict  # type checkers only know literal ones


def _copy(schema: Any, done: dict[Any, Any]) -> Any:
    done[schema] = schema  # one that contains itself keeps itself
    fields = {
        name: _field(hint, _is_optional(hint, name in schema.__optional_keys__), done)
        for name, hint in _hints(schema).items()
    }
    done[schema] = copy = _make(schema.__name__, fields)
    copy.__doc__ = schema.__doc__ or ""
    return copy


def _is_optional(hint: Any, by_class: bool) -> bool:
    """Return whether a field may be missing.

    Its class doesn't know if its module postpones the evaluation of annotations.
    """
    origin = get_origin(hint)
    if origin in (NotRequired, Required):
        return origin is NotRequired
    if origin in (Annotated, ReadOnly):
        return _is_optional(get_args(hint)[0], by_class)
    return by_class


def _may_contain(hint: Any) -> bool:
    return is_typeddict(hint) or bool(get_args(hint))


def _field(hint: Any, is_optional: bool, done: dict[Any, Any]) -> Any:
    hint = _without_qualifiers(hint, done)
    if not is_optional:
        return hint
    args: Any = get_args(hint) if get_origin(hint) is Annotated else (hint,)
    default = None if len(args) < 2 or args[1] is ... else args[1]  # noqa: PLR2004
    return Annotated[(args[0], default, *args[2:])]
