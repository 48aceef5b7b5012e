"""Self-contained HTML pages: style and images are inside the document; no scripts, no network connection.

Every page of the package is made of :func:`page`, :func:`table` and :func:`image`, so all look the same.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from html import escape


class Markup(str):
    """Text that is HTML already, and so is not escaped."""

    __slots__ = ()


def page(title: str, sections: Iterable[str]) -> str:
    """Return a whole HTML document.

    Args:
        title: plain text, for the title bar of the browser.
        sections: HTML, in order; empty ones are left out.
    """
    return _PAGE.format(title=escape(title), style=_STYLE, body="\n".join(filter(None, sections)))


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table, which scrolls sideways on a narrow screen.

    Args:
        head: cells of the first row.
        rows: cells of the other rows; escaped, as those of the first, unless they are :class:`Markup`.
    """

    def line(tag: str, cells: Sequence[str]) -> str:
        return "<tr>" + "".join(f"<{tag}>{_escaped(cell)}</{tag}>" for cell in cells) + "</tr>"

    lines = "\n".join(line("td", row) for row in rows)
    return f'<div class="wide"><table>\n<thead>{line("th", head)}</thead>\n<tbody>\n{lines}\n</tbody></table></div>'


def image(data: bytes, description: str, format: str = "png") -> str:
    """Return an image with its data inside.

    Args:
        data: bytes of the image file.
        description: plain text, for readers who cannot see the image.
        format: subtype of the MIME type image/..., such as "png" or "webp".
    """
    encoded = base64.b64encode(data).decode("ascii")
    return f'<div class="wide"><img alt="{escape(description)}" src="data:image/{format};base64,{encoded}"></div>'


def _escaped(text: str) -> str:
    return text if isinstance(text, Markup) else escape(text)


_STYLE = """
:root {
  color-scheme: light dark;
  --text: #1d2126; --faint: #667079; --paper: #ffffff; --line: #dfe3e7; --code: #f3f5f7; --link: #0b62b8;
}
@media (prefers-color-scheme: dark) {
  :root {
    --text: #e4e7ea; --faint: #98a2ab; --paper: #15181b; --line: #30363c; --code: #1f2428; --link: #79b8ff;
  }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--text); font: 16px/1.55 system-ui, sans-serif; }
main { max-width: 64rem; margin: 0 auto; padding: 1.5rem 1rem 3rem; }
h1 { font-size: 1.5rem; line-height: 1.3; margin: 0.5rem 0; }
h2 { font-size: 1.1rem; margin: 2rem 0 0.5rem; }
h3 { font-size: 1rem; margin: 1.5rem 0 0.5rem; }
a { color: var(--link); }
.wide { overflow-x: auto; }
img { display: block; width: 100%; min-width: 34rem; height: auto; margin: 1rem 0; border-radius: 6px; }
figure { margin: 1rem 0 2rem; }
figure img { margin: 0.4rem 0; }
figure:target { outline: 2px solid var(--link); outline-offset: 6px; }
summary { cursor: pointer; padding: 0.2rem 0; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: 0.3rem 1.2rem 0.3rem 0; border-bottom: 1px solid var(--line); }
th { color: var(--faint); font-weight: 600; }
pre { background: var(--code); padding: 0.8rem 1rem; border-radius: 6px; overflow-x: auto; }
"""

_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title} - rwpm_fast</title>
<style>{style}</style>
</head>
<body>
<main>
{body}
</main>
</body>
</html>
"""
