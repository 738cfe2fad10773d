from torch import nn

import lampwork as lw


def test_plans_of_one_model_that_differ_are_told_field_by_field():
    """Scheme and options, what follows from them, and nothing else."""
    model = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    one = lw.init.plan(model, scheme=("normal", {"std": 0.1}))
    other = lw.init.plan(model, scheme=("normal", {"std": 0.2}), rules=[("0.bias", "ones")])
    found = one.diff(other)
    told = {(change.name, change.field): (change.ours, change.theirs) for change in found.changes}
    assert told["0.weight", "std"] == (0.1, 0.2)
    assert told["0.bias", "scheme"] == ("zeros", "ones")
    assert told["0.bias", "reason"] == ("a bias starts at 0", "rule '0.bias'")
    assert {name for name, _ in told} == {"0.weight", "2.weight", "0.bias"}
    assert len(found) == len(told) == 6
    assert "2.weight: scheme normal {'std': 0.1} → normal {'std': 0.2}" in str(found).splitlines()


def test_equal_plans_have_no_difference():
    """Also after a way through JSON."""
    model = nn.Linear(4, 3)
    plan = lw.init.plan(model)
    found = plan.diff(lw.init.Plan.from_json(plan.to_json(), model))
    assert not found
    assert str(found) == "the plans are the same"


def test_rows_that_only_one_plan_has_are_told():
    """A layer more in one of the models."""
    one = lw.init.plan(nn.Sequential(nn.Linear(2, 2, bias=False)))
    other = lw.init.plan(nn.Sequential(nn.Linear(2, 2)))
    assert str(one.diff(other)) == "0.bias: only in the second plan"
    assert str(other.diff(one)) == "0.bias: only in the first plan"
