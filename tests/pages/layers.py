"""`python -m tests.pages.layers`: the picture of the architecture page."""

from __future__ import annotations

from html import escape

from tests.pages.runner import ROOT

LAYERS = [
    ("what users import", ["chat_models", "embeddings", "usage", "factory", "cli"]),
    ("who and where; the books", ["_connection", "models", "_ledger", "_metrics"]),
    ("input and output: the only I/O", ["_transport", "_pools"]),
    (
        "out: messages to JSON (pure)",
        ["_requests", "_structured", "_tokens", "_profiles"],
    ),
    (
        "in: bytes to messages (pure)",
        [
            "_sse",
            "_replies",
            "_thinking",
            "_responses",
            "_writers",
            "_chunks",
            "_blocks",
            "_vectors",
        ],
    ),
    ("known to all", ["errors"]),
]
WIDTH, ROW, BOX = 860, 74, 28
STYLE = "font-family:ui-monospace,monospace;font-size:13px"


def picture() -> str:
    """Layers from top to bottom; modules import from those below."""
    height = ROW * len(LAYERS) + 16
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
        f'role="img" aria-label="Layers of the package" style="{STYLE}">'
    )
    parts = [head]
    for number, (title, modules) in enumerate(LAYERS):
        top = 8 + ROW * number
        parts.append(
            f'<rect x="4" y="{top}" width="{WIDTH - 8}" height="{ROW - 10}" rx="6" '
            'fill="#8884" stroke="#888"/>'
            f'<text x="16" y="{top + 19}" fill="#777">{escape(title)}</text>'
        )
        left = 16.0
        for module in modules:
            width = 8.2 * len(module) + 20
            parts.append(
                f'<rect x="{left:.0f}" y="{top + 28}" width="{width:.0f}" height="{BOX}" '
                'rx="4" fill="#3f51b5"/>'
                f'<text x="{left + width / 2:.0f}" y="{top + 47}" fill="#fff" '
                f'text-anchor="middle">{module}</text>'
            )
            left += width + 10
    return "\n".join([*parts, "</svg>", ""])


if __name__ == "__main__":
    (ROOT / "docs" / "pictures" / "layers.svg").write_text(picture())
