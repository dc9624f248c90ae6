"""Names of settings: rejects unknown ones, and maps aliases to fields."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from functools import lru_cache
from typing import Any, get_args

from pydantic import AliasChoices, BaseModel
from pydantic.fields import FieldInfo

_PASS_THROUGH = ("extra_body", "model_kwargs")


def reject_unknown(cls: type[BaseModel], names: Iterable[str], known: set[str]) -> None:
    """Reject names of unknown settings.

    Raises:
        ValueError: A name is unknown; the error suggests a similar one.
    """
    for name in names:
        if name not in known:
            message = [f"{cls.__name__} has no setting `{name}`."]
            if similar := get_close_matches(name, known, n=1):
                message.append(f"Did you mean `{similar[0]}`?")
            if fields := [f"`{field}`" for field in _PASS_THROUGH if field in known]:
                message.append(
                    f"To send it to the API as is, pass it in {' or '.join(fields)}."
                )
            raise ValueError(" ".join(message))


def check_names(cls: type[BaseModel], values: Mapping[str, Any]) -> dict[str, Any]:
    """Reject unknown settings, which pydantic would ignore.

    A subclass that declares a field again, to change its default, keeps the aliases of
    the original: those are replaced by the field's name.

    Raises:
        ValueError: A name is unknown; the error suggests a similar one.
    """
    names = setting_names(cls)
    if not values.keys() <= names.keys():
        reject_unknown(cls, values, set(names))
    if None in values.values():
        values = _without_unset(cls, values)
    own = _own_names(cls)
    if values.keys() <= own:
        return dict(values)
    return {name if name in own else names[name]: value for name, value in values.items()}


@lru_cache(maxsize=128)
def setting_names(cls: type[BaseModel]) -> dict[str, str]:
    """Return all names by which settings can be passed, with the name of the field."""
    names = {}
    for base in reversed(cls.__mro__):
        if issubclass(base, BaseModel):
            for name, field in base.model_fields.items():
                names.update(dict.fromkeys((name, *_aliases(field)), name))
    return names


def _without_unset(cls: type[BaseModel], values: Mapping[str, Any]) -> dict[str, Any]:
    """Drop `None` where it means the default and is not a value."""
    names, fields = setting_names(cls), cls.model_fields
    return {
        name: value
        for name, value in values.items()
        if value is not None
        or fields[names[name]].is_required()
        or type(None) in get_args(fields[names[name]].annotation)
        or fields[names[name]].annotation is Any
    }


@lru_cache(maxsize=128)
def _own_names(cls: type[BaseModel]) -> frozenset[str]:
    """Return the names that pydantic itself accepts for the fields of a class."""
    names = set(cls.model_fields)
    for field in cls.model_fields.values():
        names |= _aliases(field)
    return frozenset(names)


def _aliases(field: FieldInfo) -> set[str]:
    alias = field.validation_alias
    choices = alias.choices if isinstance(alias, AliasChoices) else [alias]
    return {choice for choice in (field.alias, *choices) if isinstance(choice, str)}
