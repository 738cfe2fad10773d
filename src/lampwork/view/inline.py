"""A figure as SVG inside of an HTML page.

What matplotlib writes is a document of its own: declarations, metadata with outside links, names
that repeat in the next figure, its own fonts. This takes all of that away. Text stays text, in the
page's font and colour, and two runs over one record give the same bytes.
"""

from __future__ import annotations

import io
import re
import warnings

from matplotlib.figure import Figure

from lampwork.view.palette import INK, house_style
from lampwork.view.words import escape

_LEFT_OUT = re.compile(
    r"<\?xml.*?\?>|<!DOCTYPE.*?>|<!--.*?-->|<metadata>.*?</metadata>|<style.*?</style>"
    r"|font-family:[^;\"]*;?\s?|(?<=\n)[ \n]+",
    re.DOTALL,
)
_ROOT = re.compile(r'<svg [^>]*viewBox=("[^"]*")[^>]*>')
_ID = re.compile(r'\sid="([^"]*)"')


def svg(figure: Figure, name: str, label: str) -> str:
    """The figure as one `<svg>` element.

    Args:
        figure: what to draw.
        name: prefix of all ids; give each figure of a page its own.
        label: what a screen reader says in place of the picture.
    """
    document = _render(figure, name)
    document = _LEFT_OUT.sub("", document).replace("xlink:href", "href")
    document = _own_ids(document, name).replace(INK, "currentColor").replace("://", "&#58;//")
    head = f'<svg role="img" aria-label="{escape(label)}" viewBox='
    return _ROOT.sub(lambda root: f"{head}{root[1]}>", document, count=1).strip()


def _render(figure: Figure, name: str) -> str:
    buffer = io.StringIO()
    style = {"svg.fonttype": "none", "svg.hashsalt": name}
    with house_style(**style), warnings.catch_warnings():
        # The layout's font may lack a letter of a name; the browser's will have it.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()


def _own_ids(document: str, name: str) -> str:
    """Keep the ids that something refers to, with the figure's name before them."""
    used = set(re.findall(r'(?:url\(#|href="#)([^")]*)', document))
    document = re.sub(r'(url\(#|href="#)', rf"\g<1>{name}-", document)
    return _ID.sub(lambda match: f' id="{name}-{match[1]}"' if match[1] in used else "", document)
