import pytest
import torch
from torch import nn

import lampwork as lw
from lampwork._core.errors import InputError, NameNotFound
from lampwork.init import Rule


def _model():
    return nn.ModuleDict(
        {
            "conv1": nn.Conv2d(1, 2, 3),
            "norm": nn.BatchNorm2d(2),
            "embed": nn.Embedding(5, 4),
            "head": nn.Linear(4, 3),
        }
    )


def _schemes(rules, model=None):
    return {row.name: row.scheme for row in lw.init.plan(model or _model(), rules=rules).rows}


def _reasons(rules):
    return {row.name: row.reason for row in lw.init.plan(_model(), rules=rules).rows}


def test_the_last_rule_that_matches_wins_and_tells_over_which():
    """Rules go from the general to the particular."""
    rules = [("*", "zeros"), ("head.*", ("normal", {"std": 2.0})), ("*.bias", "ones")]
    found = _schemes(rules)
    assert found["conv1.weight"] == "zeros"
    assert found["head.weight"].options == {"std": 2.0}
    assert found["head.bias"] == "ones"
    reasons = _reasons(rules)
    assert reasons["conv1.weight"] == "rule '*'"
    assert reasons["head.weight"] == "rule 'head.*', over rule '*'"
    assert reasons["head.bias"] == "rule '*.bias', over rule '*', rule 'head.*'"


def test_any_name_of_a_shared_tensor_matches():
    """A rule may name the head that shares the embedding's weight, or its type."""
    model = nn.ModuleDict({"embed": nn.Embedding(5, 4), "head": nn.Linear(4, 5, bias=False)})
    model["head"].weight = model["embed"].weight
    for pattern in ("head.weight", "embed.weight", nn.Linear, nn.Embedding):
        assert _schemes([(pattern, "ones")], model) == {"embed.weight": "ones"}


def test_a_buffer_is_meant_only_by_a_rule_that_matches_no_parameter():
    """A glob for everything means the parameters; running statistics must be asked for."""
    found = _schemes([("*.running_mean", "ones"), ("*", "zeros"), (nn.BatchNorm2d, "ones")])
    assert found["norm.running_mean"] == "ones"
    assert found["norm.running_var"] == "keep"
    assert found["norm.weight"] == "ones"


def test_a_rule_may_go_by_the_type_of_module():
    """All that such modules hold themselves, subclasses with them."""
    found = _schemes([Rule(nn.Linear, "ones"), (nn.modules.conv._ConvNd, ("constant", {"val": 2}))])
    changed = {name for name, scheme in found.items() if scheme in ("ones", "constant")}
    assert changed == {"conv1.weight", "conv1.bias", "head.weight", "head.bias", "norm.weight"}


def test_a_rule_may_go_by_role():
    """Alone, with a type, with a glob, and for buffers."""
    bias = {"conv1.bias", "head.bias"}
    assert _named("ones", [Rule("*", "ones", role="bias")]) == {*bias, "norm.weight"}
    assert _named("uniform", [Rule(nn.Linear, "uniform", role="weight")]) == {"head.weight"}
    assert _named("uniform", [Rule("*.weight", "uniform", role="embedding")]) == {"embed.weight"}
    assert len(_named("zeros", [Rule("norm.running*", "zeros", role="buffer")])) == 5


def _named(scheme, rules):
    return {name for name, found in _schemes(rules).items() if found == scheme}


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (("conv2.*", "zeros"), r"'conv2\.\*' matches no parameter or buffer.*mean.*conv1"),
        (Rule(nn.Conv1d, "zeros"), "'Conv1d' matches no type of a module.*mean 'Conv2d'"),
        (Rule("head.*", "zeros", role="norm"), r"rule 'head.\*' for role 'norm' matches nothing: "),
        (Rule(nn.Linear, "zeros", role="norm"), "rule Linear for role 'norm'.* roles weight, bias"),
    ],
)
def test_a_rule_without_a_match_is_an_error_with_the_nearest_names(rule, message):
    """A rule that silently does nothing is the fault that this room exists against."""
    with pytest.raises(NameNotFound, match=message):
        _schemes([rule])


@pytest.mark.parametrize(
    "rule", ["head.*", ("head.*",), (3, "zeros"), (torch.Tensor, "zeros"), ("a", "b", "c")]
)
def test_what_is_no_rule_is_refused(rule):
    """The message shows a pair."""
    with pytest.raises(InputError, match="is not a rule: pass pairs such as"):
        _schemes([rule])


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ([Rule("*", "zeros", role="biass")], "no role 'biass': did you mean 'bias'. Known: weight"),
        ([("*", "gpt2")], "'gpt2' is for a whole model, not for a rule '.': pass it as scheme='gp"),
        ([("*", "auto")], "'auto' is for a whole model"),
        ([("*", "xavier_unifrom")], "no scheme 'xavier_unifrom': did you mean 'xavier_uniform'"),
        ([("*", ("normal", {"sdt": 1.0}))], "'normal' takes no option 'sdt': its options are mean"),
        (Rule("*", "zeros"), r"rules is a list, it was given Rule\("),
        ("head.*", "rules is a list"),
    ],
)
def test_a_rule_that_cannot_be_meant_is_told_with_its_cure(rules, message):
    """Roles, recipes, schemes and options, each with the nearest that there is."""
    with pytest.raises(InputError, match=message):
        _schemes(rules)
