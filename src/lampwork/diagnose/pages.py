"""The page of each code: what it means, how it is found, its limits, its source, and the cure.

The text is the docstring of the rule, so that whoever changes a rule has its page before him; that
of codes which only the check of first weights raises stands in `checked`. The first line is the
code and its meaning in a few words. Of the paragraphs below, those that begin with `Not accused:`,
`Known limits:`, `Source:` and `Cure:` become sections of their own; what is indented is code.
"""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Iterable
from dataclasses import dataclass

from lampwork._core.errors import InputError
from lampwork._core.names import nearest
from lampwork.diagnose.checked import CHECKED
from lampwork.diagnose.verdict import RULES, Rule

FAMILIES = {
    "data": "the data and its way to the model",
    "init": "the first weights",
    "act": "what modules put out",
    "grad": "gradients",
    "optim": "the optimizer",
    "mode": "training and evaluation mode",
    "loss": "the loss",
}
"""First word of the codes and what they are about, in the order of cause."""

_HEAD = re.compile(r"`(?P<code>[a-z]+-[a-z-]+)`: (?P<meaning>.+)\.")
_SECTIONS = ("Not accused", "Known limits", "Source")


@dataclass(frozen=True)
class Page:
    """What there is to know of one code.

    Attributes:
        code: its public name.
        meaning: in a few words, without capital and full stop.
        found: paragraphs: what it means and how it is found.
        sections: further paragraphs by title: what is not accused, known limits, source.
        cure: what to do, in one sentence.
        example: the cure as code.
    """

    code: str
    meaning: str
    found: tuple[str, ...]
    sections: tuple[tuple[str, str], ...]
    cure: str
    example: str

    @property
    def family(self) -> str:
        """The first word of the code."""
        return self.code.partition("-")[0]

    def markdown(self) -> str:
        """The page as Markdown."""
        parts = [f"# {self.code}", f"{_sentence(self.meaning)}.", *self.found]
        for title, text in self.sections:
            parts += [f"## {title}", text]
        parts += ["## Cure", self.cure, f"```python\n{self.example}\n```"]
        return "\n\n".join(parts) + "\n"


def pages() -> dict[str, Page]:
    """The page of every code, by family and then in the order of cause."""
    found = [_page(text) for text in (*map(_docstring, RULES), *CHECKED)]
    order = list(FAMILIES)
    return {page.code: page for page in sorted(found, key=lambda page: order.index(page.family))}


def page(code: str) -> Page:
    """The page of one code.

    Raises:
        InputError: there is no such code.
    """
    known = pages()
    if code not in known:
        near = nearest(code, list(known))
        hint = f"did you mean {' or '.join(near)}?" if near else "`lampwork explain` lists them"
        raise InputError(f"there is no finding {code!r}: {hint}")
    return known[code]


def meaning(code: str) -> str | None:
    """What a code means in a few words; None for one of a later version."""
    found = pages().get(code)
    return None if found is None else found.meaning


def index(found: Iterable[Page]) -> str:
    """Markdown that lists pages by family, each with a link to its file beside this one."""
    parts = ["# What the verdict can name"]
    by_family: dict[str, list[Page]] = {}
    for one in found:
        by_family.setdefault(one.family, []).append(one)
    for family, members in by_family.items():
        rows = "\n".join(f"- [{one.code}]({one.code}.md): {one.meaning}" for one in members)
        parts += [f"## {_sentence(FAMILIES[family])}", rows]
    return "\n\n".join(parts) + "\n"


def _docstring(rule: Rule) -> str:
    text = inspect.getdoc(rule)
    if text is None:
        raise InputError("the pages are docstrings, and Python was told to strip them: leave -OO")
    return text


def _page(text: str) -> Page:
    head, *paragraphs = text.strip().split("\n\n")
    told = _HEAD.fullmatch(" ".join(head.split()))
    if told is None:
        raise ValueError(f"the page of a code begins with the code, not with {head!r}")
    found, sections, cure, example = [], [], "", ""
    for paragraph in paragraphs:
        title, _, rest = paragraph.partition(": ")
        if paragraph.startswith("    "):
            example = textwrap.dedent(paragraph)
        elif title == "Cure":
            cure = _sentence(_flowing(rest))
        elif title in _SECTIONS:
            words = _flowing(rest)  # a source begins with a name, which keeps its case
            sections.append((title, words if title == "Source" else _sentence(words)))
        else:
            found.append(_flowing(paragraph))
    return Page(told["code"], told["meaning"], tuple(found), tuple(sections), cure, example)


def _flowing(paragraph: str) -> str:
    return " ".join(paragraph.split())


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]
