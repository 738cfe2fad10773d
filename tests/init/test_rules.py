import pytest

from lampwork._core.errors import InputError, NameNotFound
from lampwork.init.rules import last_match, read

NAMES = ["conv1.weight", "conv1.bias", "head.weight", "head.bias"]
BUFFERS = ["norm.running_mean"]


def test_the_last_rule_that_matches_wins():
    """Rules go from the general to the particular."""
    rules = read(
        [("*", "zeros"), ("head.*", ("normal", {"std": 2.0})), ("*.bias", "ones")], NAMES, []
    )
    assert last_match(rules, ["conv1.weight"]).scheme == "zeros"
    assert last_match(rules, ["head.weight"]).scheme.options == {"std": 2.0}
    assert last_match(rules, ["head.bias"]).scheme == "ones"
    assert last_match(rules[1:], ["conv1.weight"]) is None


def test_any_name_of_a_shared_tensor_matches():
    """A rule may name the head that shares the embedding's weight."""
    rules = read([("head.weight", "zeros")], NAMES, [])
    assert last_match(rules, ["embed.weight", "head.weight"]).glob == "head.weight"


def test_a_buffer_is_meant_only_by_a_glob_that_matches_no_parameter():
    """A glob for everything means the parameters; running statistics must be asked for."""
    rules = read([("*.running_mean", "ones"), ("*", "zeros")], NAMES, BUFFERS)
    assert last_match(rules, BUFFERS, is_buffer=True).scheme == "ones"
    assert last_match(rules[1:], BUFFERS, is_buffer=True) is None
    assert last_match(rules[:1], NAMES) is None


def test_a_glob_without_a_match_is_an_error_with_the_nearest_names():
    """A rule that silently does nothing is the fault that this room exists against."""
    with pytest.raises(NameNotFound, match=r"'conv2\.\*' matches no parameter or buffer.*conv1"):
        read([("conv2.*", "zeros")], NAMES, BUFFERS)


@pytest.mark.parametrize("rule", ["head.*", ("head.*",), (3, "zeros"), ("a", "b", "c")])
def test_what_is_no_pair_is_refused(rule):
    """The message shows a pair."""
    with pytest.raises(InputError, match="is not a rule: pass pairs such as"):
        read([rule], NAMES, BUFFERS)
