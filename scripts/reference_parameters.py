"""A griffe extension: gives the reference the constructors' parameters.

In the source a constructor is `__init__(**kwargs: Unpack[…])`, for type checkers, and its
parameters are the fields of the class, each with its docstring.
"""

from __future__ import annotations

from typing import Any

import griffe
from pydantic import BaseModel

from langchain_nscale import ChatNscale, NscaleEmbeddings
from scripts.settings_page import Setting, settings_of

CLASSES: dict[str, type[BaseModel]] = {
    "langchain_nscale.chat_models.ChatNscale": ChatNscale,
    "langchain_nscale.embeddings.NscaleEmbeddings": NscaleEmbeddings,
}


class ReferenceParameters(griffe.Extension):
    """Replaces `**kwargs` by the settings of the class."""

    def on_class(self, *, cls: griffe.Class, **_: Any) -> None:
        """Write the signature and the docstring of a constructor."""
        if cls.path not in CLASSES:
            return
        settings = settings_of(CLASSES[cls.path])
        function = griffe.Function(
            "__init__",
            parameters=griffe.Parameters(*map(_parameter, settings)),
            lineno=cls.lineno,
            endlineno=cls.lineno,
        )
        lines = [f"    {s.name}: {' '.join(s.text.split())}" for s in settings]
        function.docstring = griffe.Docstring(
            "\n".join(["", "Args:", *lines]), parser="google", parent=function
        )
        cls.set_member("__init__", function)


def _parameter(setting: Setting) -> griffe.Parameter:
    return griffe.Parameter(
        setting.name,
        annotation=setting.type,
        kind=griffe.ParameterKind.keyword_only,
        default=setting.default or (None if setting.name == "model" else "..."),
    )
