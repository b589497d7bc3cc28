"""Pages that hold everything that they show, and load nothing: plain HTML with its style, its pictures and its script.

What names of files, classes and labels say is text: they are escaped, and a policy in the page keeps any other script
than the page's own from running, and anything from being loaded.
"""

import base64
import hashlib
import html
import json
from pathlib import Path
from typing import Any

from tools.visualization.pictures import COLOURS, as_text

__all__ = ["page", "text"]

_HERE = Path(__file__).parent


def text(value: object) -> str:
    """Returns a value as text of HTML, or of an attribute in quotes."""
    return html.escape(as_text(str(value)), quote=True)


def page(title: str, body: str, *, script: str | None = None, data: Any = None, style: str = "") -> str:
    """Returns a page.

    Args:
      title: its title and first heading, as text.
      body: HTML below the heading.
      script: name of a file of JavaScript beside this one; None for none.
      data: what the script reads from the element ``data``, as values of JSON.
      style: rules of CSS besides those of all pages.
    """
    colours = ", ".join(f"rgb({red:.0f}, {green:.0f}, {blue:.0f})" for red, green, blue in COLOURS)
    style = f"{(_HERE / 'page.css').read_text(encoding='utf-8')}:root{{--colours: {colours}}}\n{style}"
    code = (_HERE / script).read_text(encoding="utf-8") if script else ""
    policy = f"default-src 'none'; img-src data:; style-src '{_hash(style)}'; base-uri 'none'; form-action 'none'"
    if script:
        policy += f"; script-src '{_hash(code)}'"
    parts = [
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{html.escape(policy)}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        '<meta name="color-scheme" content="light dark">',
        # Without it, a browser asks the server for one.
        '<link rel="icon" href="data:,">',
        f"<title>{text(title)}</title>\n<style>{style}</style>\n</head>\n<body>\n<main>",
        f"<h1>{text(title)}</h1>\n{body}\n</main>",
    ]
    if script:
        # A "<" could end the element.
        shown = json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")
        parts += [f'<script type="application/json" id="data">{shown}</script>', f"<script>{code}</script>"]
    return "\n".join([*parts, "</body>\n</html>\n"])


def _hash(content: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}"
