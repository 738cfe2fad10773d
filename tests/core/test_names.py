"""Globs over dotted names, and the names that an error suggests."""

from fnmatch import fnmatchcase

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lampwork._core.errors import NameNotFound
from lampwork._core.names import matches, nearest, not_found, select

MODULES = ["", "stem", "layer1", "layer1.0", "layer1.0.conv1", "layer1.0.bn1", "layer2.0.conv1"]


def test_star_crosses_dots():
    """`layer1.*` names everything below layer1 at any depth, and not layer1 itself."""
    assert select(MODULES, ["layer1.*"], what="module") == MODULES[3:6]


def test_star_alone_names_everything():
    """`*` names every module, the root with its empty name included."""
    assert select(MODULES, ["*"], what="module") == MODULES


@pytest.mark.parametrize(
    ("glob", "named"),
    [
        ("*.conv1", ["layer1.0.conv1", "layer2.0.conv1"]),
        ("layer?", ["layer1"]),
        ("layer[12].0.conv1", ["layer1.0.conv1", "layer2.0.conv1"]),
        ("layer[!1].0.conv1", ["layer2.0.conv1"]),
        ("", [""]),
        ("layer1.0", ["layer1.0"]),
    ],
)
def test_a_glob_speaks_of_the_whole_name(glob, named):
    """Each pattern names exactly the modules that the shell's rules give."""
    assert select(MODULES, [glob], what="module") == named


def test_several_globs_keep_the_order_of_the_names():
    """The names come once and in their own order, whatever the order of the globs."""
    chosen = select(MODULES, ["layer2*", "stem", "*conv1"], what="module")
    assert chosen == ["stem", "layer1.0.conv1", "layer2.0.conv1"]


def test_case_and_dots_are_meant():
    """Matching distinguishes case, and a dot in a glob is a dot."""
    assert not matches("Stem", "stem")
    assert not matches("layer1x0", "layer1.0")


WORDS = st.lists(st.sampled_from(["a", "b", "conv1", "0", "layer"]), max_size=4).map(".".join)


@settings(deadline=None, max_examples=100)
@given(names=st.lists(WORDS, unique=True), glob=st.text("ab.*?01[]!", max_size=6))
def test_select_agrees_with_the_standard_library(names, glob):
    """The compiled pattern chooses the names that `fnmatchcase` chooses one by one."""
    expected = [name for name in names if fnmatchcase(name, glob)]
    try:
        assert select(names, [glob], what="module") == expected
    except NameNotFound:
        assert expected == []


def test_a_glob_without_a_match_suggests_names():
    """A misspelt name is an error that tells the nearest ones, also by their last part."""
    with pytest.raises(NameNotFound) as error:
        select(MODULES, ["layer1.0.conv2"], what="module")
    assert str(error.value) == (
        "'layer1.0.conv2' matches no module: did you mean 'layer1.0.conv1' or 'layer2.0.conv1'"
        " or 'layer1.0.bn1'?"
    )
    assert nearest("bn2", MODULES) == ["layer1.0.bn1"]


def test_a_name_like_nothing_lists_what_there_is():
    """Where nothing looks like the glob, the first names are listed, and how many there are."""
    names = [f"block{i}" for i in range(10)]
    shown = ", ".join(repr(name) for name in names[:8])
    assert not_found("zzz", names, what="layer") == (
        f"'zzz' matches no layer: there are 10: {shown}, …"
    )
    assert not_found("zzz", [], what="layer") == "'zzz' matches no layer: there is no layer at all"


def test_one_glob_of_several_without_a_match_is_an_error():
    """A glob that matches nothing is told even where another one matches."""
    with pytest.raises(NameNotFound, match="'head' matches no module"):
        select(MODULES, ["stem", "head"], what="module")
