"""`python -m scripts.layers_picture`: draws the layers of import-linter's contract."""

from __future__ import annotations

import sys
from html import escape
from pathlib import Path

if sys.version_info >= (3, 11):
    import tomllib
else:  # pragma: no cover
    import tomli as tomllib

ROOT = Path(__file__).parents[1]
PICTURE = ROOT / "docs" / "pictures" / "layers.svg"
WIDTH, ROW, BOX = 860, 44, 28
STYLE = "font-family:ui-monospace,monospace;font-size:13px"


def layers() -> list[list[str]]:
    """Return the layers from top to bottom, each with its modules."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    (contract,) = (
        contract
        for contract in project["tool"]["importlinter"]["contracts"]
        if contract["type"] == "layers" and "containers" in contract
    )
    return [
        [module.strip() for module in layer.replace(":", "|").split("|")]
        for layer in contract["layers"]
    ]


def picture() -> str:
    """Return an SVG of the layers; modules only import from those below."""
    rows = layers()
    height = ROW * len(rows) + 16
    parts = [
        '<svg xmlns="http://www.w3.org/2000/svg" role="img" '  # noqa: ISC004  # one line
        f'viewBox="0 0 {WIDTH} {height}" aria-label="Layers" style="{STYLE}">'
    ]
    for number, modules in enumerate(rows):
        top = 8 + ROW * number
        parts.append(
            f'<rect x="4" y="{top}" width="{WIDTH - 8}" height="{ROW - 6}" rx="6" '
            'fill="#8884" stroke="#888"/>'
        )
        left = 16.0
        for module in modules:
            width = 8.2 * len(module) + 20
            parts.append(
                f'<rect x="{left:.0f}" y="{top + 5}" width="{width:.0f}" height="{BOX}" '
                'rx="4" fill="#3f51b5"/>'
                f'<text x="{left + width / 2:.0f}" y="{top + 24}" fill="#fff" '
                f'text-anchor="middle">{escape(module)}</text>'
            )
            left += width + 10
    return "\n".join([*parts, "</svg>", ""])


if __name__ == "__main__":
    PICTURE.write_text(picture(), encoding="utf-8")
