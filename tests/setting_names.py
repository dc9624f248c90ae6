"""The names by which the settings of a class can be passed."""

from __future__ import annotations

from pydantic import AliasChoices, BaseModel


def setting_names(cls: type[BaseModel]) -> set[str]:
    """All names of all fields, those of subclasses and base classes included."""
    names: set[str] = set()
    for base in cls.__mro__:
        for name, field in getattr(base, "model_fields", {}).items():
            alias = field.validation_alias
            others = alias.choices if isinstance(alias, AliasChoices) else [alias]
            names |= {each for each in (name, *others) if isinstance(each, str)}
    return names
