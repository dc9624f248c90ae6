"""Imports of the public names, deferred until a name is used.

`import langchain_nscale` stays cheap, so the pytest plugin and the command line start
fast.
"""

from __future__ import annotations

import sys
from importlib import import_module
from itertools import pairwise
from typing import Any

# This module imports langchain-core's chat models, which takes half a second. `resolve`
# imports them first: with few frames on the stack that takes 2 % less, because deeper
# imports can make CPython map and unmap the next part of its stack thousands of times.
_CHAT_MODELS = "langchain_nscale.chat_models"


def install_lazy_imports(package: str) -> bool:
    """Resolve the names that a package imports under `TYPE_CHECKING` on first access.

    The block itself is the only list of public names:
    `if TYPE_CHECKING or not install_lazy_imports(__name__): from .x import Name as Name`.

    Args:
        package: Name of the package that is being imported.

    Returns:
        Whether it worked. Without source code it returns False, so that the block is
        executed and everything is imported eagerly.
    """
    module = sys.modules[package]
    loader: Any = module.__spec__ and module.__spec__.loader
    try:
        # Read as the import itself reads, which may happen inside an event loop.
        homes = _listed_imports(loader.get_data(module.__file__).decode())
    except (OSError, ValueError):  # a .pyc
        return False

    def resolve(name: str) -> Any:
        if name not in homes:
            msg = f"module {package!r} has no attribute {name!r}"
            raise AttributeError(msg)
        if homes[name] == _CHAT_MODELS:
            import langchain_core.language_models.chat_models  # noqa: F401, PLC0415
        value = getattr(import_module(homes[name]), name)
        setattr(module, name, value)
        return value

    names = sorted({*homes, "__version__"})
    vars(module).update(__getattr__=resolve, __dir__=lambda: names, __all__=names)
    return True


def _listed_imports(source: str) -> dict[str, str]:
    """Map each name imported in an `if TYPE_CHECKING or …:` block to its module.

    The block only contains lines like `from .x import Name as Name`, wrapped or not.
    Parsing it as Python takes ten times as long.
    """
    _, _, block = source.partition("install_lazy_imports(__name__):")
    words = block.translate(str.maketrans("(),", "   ")).split()
    homes = {}
    home = ""
    for word, following in pairwise(words):
        if word == "from":
            home = following
        elif word == "as":
            homes[following] = home
    return homes
