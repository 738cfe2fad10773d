"""Every code has a page, made of the docstring of its rule."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import lampwork.diagnose
from lampwork._core.errors import InputError
from lampwork.diagnose.pages import FAMILIES, index, meaning, page, pages


def test_every_code_that_a_rule_raises_has_a_page():
    """The pages cover exactly the codes of the rules and of the check of first weights."""
    diagnose = Path(lampwork.diagnose.__file__).parent
    families = "|".join(FAMILIES)
    raised = {
        code
        for room in (diagnose, diagnose.with_name("init"))
        for file in room.glob("*.py")
        for code in re.findall(rf'"((?:{families})-[a-z-]+)"', file.read_text(encoding="utf-8"))
    }
    assert raised == set(pages())


@pytest.mark.parametrize("code", pages())
def test_a_page_is_whole(code: str):
    """It says what is found, where that may be wrong, on what it rests, and the cure, as code."""
    found = page(code)
    titles = [title for title, _ in found.sections]
    assert [title for title in titles if title != "Not accused"] == ["Known limits", "Source"]
    assert found.found
    assert found.cure.endswith(".")
    assert ast.parse(found.example).body
    assert len(found.meaning) <= 70
    text = found.markdown()
    for part in (found.meaning[1:], *found.found, found.cure, found.example, *titles):
        assert part in text


def test_pages_stand_by_family_in_the_order_of_cause():
    """Data first, the loss last."""
    families = [found.family for found in pages().values()]
    assert list(dict.fromkeys(families)) == list(FAMILIES)
    assert families == sorted(families, key=list(FAMILIES).index)
    assert index(pages().values()).count("\n- [") == len(families)


def test_an_unknown_code_is_told_with_the_nearest():
    """A typo gets the code that was meant."""
    assert meaning("act-ded") is None
    with pytest.raises(InputError, match="there is no finding 'act-ded': did you mean act-dead"):
        page("act-ded")
    with pytest.raises(InputError, match="`lampwork explain` lists them"):
        page("zzz")
