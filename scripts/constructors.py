"""`python -m scripts.constructors`: writes the constructors that editors show.

The constructors exist for type checkers only: pydantic makes the real ones. They are
written from the fields: names, types, defaults, and the docstrings as descriptions.
"""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
import textwrap
from importlib import import_module
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from langchain_nscale import ChatNscale, NscaleEmbeddings
from langchain_nscale._settings.names import setting_names
from scripts.settings_page import settings_of

CLASSES: list[type[BaseModel]] = [ChatNscale, NscaleEmbeddings]
BEGIN = "    # --- constructor for editors: `python -m scripts.constructors`"
END = "    # --- end of the constructor"
# Fields that accept more than their annotations say: pydantic sees `Any` there.
TYPES = {
    "request_timeout": "Timeout",
    "http_client": "Client",
    "http_async_client": "AsyncClient",
}
# Settings whose usual name is not that of the field.
USUAL = {"model_name": "model", "request_timeout": "timeout"}
# Names that can stand for the required setting.
MODEL = ("model", "model_name")


def written_annotations(cls: type) -> dict[str, str]:
    """Return the annotations of a class's fields as they are written."""
    written: dict[str, str] = {}
    for base in reversed(cls.__mro__[:-1]):
        is_generic = "[" in base.__name__  # has no source of its own
        if base.__module__.startswith("langchain_") and not is_generic:
            body = ast.parse(textwrap.dedent(inspect.getsource(base))).body[0]
            assert isinstance(body, ast.ClassDef)
            written |= {
                statement.target.id: ast.unparse(statement.annotation)
                for statement in body.body
                if isinstance(statement, ast.AnnAssign)
                and isinstance(statement.target, ast.Name)
            }
    return written


def names_of(cls: type[BaseModel]) -> dict[str, list[str]]:
    """Return all names of each setting, in the order of the documentation."""
    names = setting_names(cls)
    fields = [names[setting.name] for setting in settings_of(cls)]
    known: dict[str, list[str]] = {}
    for field in fields:
        usual = USUAL.get(field, field)
        others = {name for name, home in names.items() if home == field} - {usual}
        known[field] = [usual, *sorted(others)]
    return known


def default_of(cls: type[BaseModel], name: str) -> str:
    """Return the default as it is shown; `None` stands for what is not a constant."""
    default = cls.model_fields[name].default
    return repr(None if default in (PydanticUndefined, "") else default)


def parameters(cls: type[BaseModel]) -> dict[str, str]:
    """Return each parameter by name, the model's excepted, as it is written."""
    written = written_annotations(cls)
    found = {}
    for field, names in names_of(cls).items():
        kind = TYPES.get(field, written[field].replace("builtins.", ""))
        # `None` means the default, wherever it is not a value of its own.
        if "None" not in kind.split(" | ") and kind not in {"Any", *TYPES.values()}:
            kind = f"{kind} | None"
        for name in names:
            found[name] = f"{name}: {kind} = {default_of(cls, field)}"
    return {name: text for name, text in found.items() if name not in MODEL}


def descriptions(cls: type[BaseModel]) -> str:
    """Return the section `Args` of the docstring."""
    texts = {setting.name: setting.text for setting in settings_of(cls)}
    names = setting_names(cls)
    lines = []
    for field, own in names_of(cls).items():
        text = next(text for name, text in texts.items() if names[name] == field)
        for name in own:
            shown = " ".join(text.split())
            if name != own[0]:
                shown = f"The same as `{own[0]}`."
            lines.append(
                textwrap.fill(
                    f"{name}: {shown}",
                    width=74,
                    initial_indent=" " * 4,
                    subsequent_indent=" " * 8,
                    break_long_words=False,
                    break_on_hyphens=False,
                )
            )
    return "\n".join(lines)


def constructor(cls: type[BaseModel]) -> str:
    """Return the source of a constructor, indented for its class."""
    rest = ", ".join(parameters(cls).values())
    kinds = [name for name in MODEL if name in setting_names(cls)]
    docstring = (
        f'"""Create the {"model" if cls is ChatNscale else "embeddings"}.\n\nArgs:\n'
        f'{descriptions(cls)}\n"""'
    )
    source = []
    for number, name in enumerate(kinds):
        header = f"def __init__(self, *, {name}: str, {rest}) -> None:"
        overload = "@overload\n" if len(kinds) > 1 else ""
        body = textwrap.indent(docstring, "    ") if number == 0 else "    ..."
        source.append(f"{overload}{header}\n{body}\n")
    if len(kinds) > 1:
        source.append("def __init__(self, **_: Any) -> None: ...\n")
    block = textwrap.indent("\n".join(source), "    ")
    return textwrap.indent(f"if TYPE_CHECKING:\n\n{block}", "    ")


def with_constructor(source: str, cls: type[BaseModel]) -> str:
    """Return the source of a module with the constructor of its class."""
    before, _, rest = source.partition(f"{BEGIN}\n")
    _, _, after = rest.partition(f"{END}\n")
    text = f"{before}{BEGIN}\n\n{constructor(cls)}\n{END}\n{after}"
    command: list[Any] = [Path(sys.executable).parent / "ruff", "format", "-"]
    done = subprocess.run(  # noqa: S603  # our own
        command, input=text, capture_output=True, text=True, check=True
    )
    return done.stdout


def module_of(cls: type) -> Path:
    """Return the path of the module that has a class."""
    return Path(str(import_module(cls.__module__).__file__))


if __name__ == "__main__":
    for owner in CLASSES:
        path = module_of(owner)
        updated = with_constructor(path.read_text(encoding="utf-8"), owner)
        path.write_text(updated, encoding="utf-8")
        sys.stdout.write(f"{path}\n")
