"""Converts schemas of answers and arguments to the form that the API accepts."""

from __future__ import annotations

import json
import re
import reprlib
from collections.abc import Mapping
from contextlib import suppress
from graphlib import CycleError, TopologicalSorter
from typing import Any

from pydantic import BaseModel, PydanticUserError, TypeAdapter
from pydantic.json_schema import GenerateJsonSchema
from pydantic_core.core_schema import DatetimeSchema, TimeSchema
from typing_extensions import is_typeddict

from langchain_nscale._requests.conversions import converted
from langchain_nscale._requests.typed_dicts import with_defaults

INVALID_IN_NAME = r"[^a-zA-Z0-9_-]"

MAX_NAME = 64  # characters

_REFERENCE = r'"\$ref": "#/(?:\$defs|definitions)/([^"]+)"'


# Keywords that vLLM's grammars reject. They only narrow a schema, so the answer is
# validated without them.
_UNSUPPORTED = {"uniqueItems", "propertyNames", "contains", "minContains", "maxContains"}

# The formats that vLLM's grammars know (0.32.0; 44 of Pydantic's and others were tried).
# Any other is an error 400, "Unknown format"; Pydantic checks the answer without it.
_FORMATS = frozenset(
    {"date", "date-time", "duration", "email", "hostname", "ipv4", "ipv6"}
    | {"json-pointer", "relative-json-pointer", "time", "unknown"}
    | {"uri", "uri-reference", "uri-template", "uuid"}
)

_LOOK_AROUND = r"\(\?<?[=!]"


def response_format(
    schema: dict[str, Any] | type, *, strict: bool | None = None
) -> dict[str, Any]:
    """Return the `response_format` for a schema, or `schema` itself if it is one."""
    if isinstance(schema, dict) and is_response_format(schema):
        return schema
    purpose = ("response_format", strict)
    return converted(schema, purpose, lambda: _response_format(schema, strict))


def _response_format(
    schema: dict[str, Any] | type, strict: bool | None
) -> dict[str, Any]:
    try:
        whole = json_schema(schema, strict=strict)
    except Exception:  # whatever langchain-core raises
        if isinstance(schema, type):  # the message is about a field of the class
            raise
        msg = (
            f"`response_format` is {reprlib.repr(schema)}: use a Pydantic class, a "
            'dataclass, a TypedDict, a JSON Schema, or {"type": "json_object"}.'
        )
        raise ValueError(msg) from None
    name = whole.get("title") or "response"
    inner: dict[str, Any] = {
        "name": re.sub(INVALID_IN_NAME, "_", str(name))[:MAX_NAME] or "response",
        "schema": without_unsupported(whole),
    }
    if description := whole.get("description"):
        inner["description"] = description
    if strict is not None:
        inner["strict"] = strict
    return {"type": "json_schema", "json_schema": inner}


def is_response_format(schema: object) -> bool:
    """Return whether a dict is a `response_format` instead of a JSON Schema."""
    kinds = ("json_schema", "json_object", "text")
    return isinstance(schema, dict) and schema.get("type") in kinds


def schema_of_response_format(schema: Any) -> Any:
    """Return the JSON Schema in a `response_format`, or `schema` itself."""
    if isinstance(schema, dict) and schema.get("type") == "json_schema":
        inner = schema.get("json_schema")
        if isinstance(inner, dict) and isinstance(inner.get("schema"), dict):
            return {"title": inner.get("name") or "response", **inner["schema"]}
    return schema


def json_schema(schema: Any, *, strict: bool | None = None) -> dict[str, Any]:
    """Return the JSON Schema of a Pydantic class, TypedDict, dataclass or JSON Schema."""
    schema = schema_of_response_format(schema)
    if isinstance(schema, type) and issubclass(schema, BaseModel):
        own = schema.model_json_schema()
        if is_recursive(own):
            # langchain-core would inline `$defs` and truncate recursive ones.
            return own
        if "'tz_constraint': 'naive'" in str(schema.__pydantic_core_schema__):
            return schema.model_json_schema(schema_generator=_NaiveTimes)
    elif is_typeddict(schema):
        # On Python < 3.12, pydantic refuses the TypedDict of `typing`.
        with suppress(PydanticUserError):
            typed: dict[str, Any] = schema_of(schema)
            if is_recursive(typed):
                return typed
    elif isinstance(schema, dict) and is_recursive(schema):
        titled: dict[str, Any] = with_title(schema)
        return titled
    from langchain_core.utils.function_calling import (  # noqa: PLC0415  # slow
        convert_to_json_schema,
    )

    return convert_to_json_schema(with_defaults(with_title(schema)), strict=strict)


class _NaiveTimes(GenerateJsonSchema):
    """Leaves out the format of times without an offset.

    The grammars accept `date-time` and `time` with an offset only, so that a
    `NaiveDatetime` could never be valid.
    """

    def datetime_schema(self, schema: DatetimeSchema) -> dict[str, Any]:
        is_naive = schema.get("tz_constraint") == "naive"
        return {"type": "string"} if is_naive else super().datetime_schema(schema)

    def time_schema(self, schema: TimeSchema) -> dict[str, Any]:
        is_naive = schema.get("tz_constraint") == "naive"
        return {"type": "string"} if is_naive else super().time_schema(schema)


def with_title(schema: Any) -> Any:
    """Give a JSON Schema a title, which the API requires as its name."""
    if not isinstance(schema, dict) or schema.get("title"):
        return schema
    is_other = is_response_format(schema) or "function" in schema or "name" in schema
    return schema if is_other else {"title": "response", **schema}


def without_unsupported(schema: Any) -> Any:
    """Return a schema without the keywords that vLLM's grammars reject."""
    if isinstance(schema, list):
        return [without_unsupported(item) for item in schema]
    if not isinstance(schema, Mapping):
        return schema
    result = {}
    for key, value in schema.items():
        if key in ("properties", "$defs", "definitions") and isinstance(value, Mapping):
            # These keys are names, not keywords.
            result[key] = {name: without_unsupported(v) for name, v in value.items()}
        elif key in ("default", "const", "enum", "examples"):
            result[key] = value
        elif not _is_unsupported(key, value):
            result[key] = without_unsupported(value)
    return result


def _is_unsupported(key: str, value: object) -> bool:
    return (
        key in _UNSUPPORTED
        or (key == "format" and value not in _FORMATS)
        or (key == "pattern" and bool(re.search(_LOOK_AROUND, str(value))))
    )


def is_recursive(schema: Mapping[str, Any]) -> bool:
    """Return whether a definition refers to itself, directly or indirectly."""
    definitions = {**schema.get("$defs", {}), **schema.get("definitions", {})}
    references = {
        name: re.findall(_REFERENCE, json.dumps(definition))
        for name, definition in definitions.items()
    }
    try:
        TopologicalSorter(references).prepare()
    except CycleError:
        return True
    return '"$ref": "#"' in json.dumps(schema)


def schema_of(source: Any) -> Any:
    if isinstance(source, type) and issubclass(source, BaseModel):
        return source.model_json_schema()
    return TypeAdapter(source).json_schema()
