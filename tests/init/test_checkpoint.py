"""Where pretrained weights come from, and what must be found out before one is written."""

import json

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import lampwork as lw
from lampwork._core.errors import InputError, NameNotFound


def _net(classes=3):
    return nn.ModuleDict(
        {"body": nn.Linear(4, 4), "norm": nn.BatchNorm1d(4), "head": nn.Linear(4, classes)}
    )


def _sharded(folder, model):
    """Two files and their index, as transformers writes them."""
    state = model.state_dict()
    first = {name: value for name, value in state.items() if name.startswith("body")}
    second = {name: value for name, value in state.items() if name not in first}
    weight_map = {}
    for number, part in enumerate((first, second), 1):
        file = f"model-{number:05}-of-00002.safetensors"
        save_file(part, folder / file)
        weight_map |= dict.fromkeys(part, file)
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return index


def _unchanged(model, source, match, error=InputError, **options):
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(error, match=match):
        lw.init.pretrained(model, source, **options)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def test_a_sharded_checkpoint_is_loaded_by_its_index_or_folder(tmp_path):
    """All files, each tensor from the one that holds it."""
    source = _net()
    index = _sharded(tmp_path, source)
    for path in (index, tmp_path, str(tmp_path)):
        model = _net()
        report = lw.init.pretrained(model, path)
        assert report.loaded == list(model.state_dict())
        assert all(torch.equal(v, model.state_dict()[k]) for k, v in source.state_dict().items())


def test_a_folder_with_one_file_is_that_file(tmp_path):
    """Without an index there is nothing to choose."""
    source, model = _net(), _net()
    save_file(source.state_dict(), tmp_path / "model.safetensors")
    assert len(lw.init.pretrained(model, tmp_path).loaded) == 9


@pytest.mark.parametrize("fault", ["truncated", "gone", "index", "elsewhere", "not held"])
def test_a_damaged_shard_is_told_before_anything_is_written(tmp_path, fault):
    """The first file is whole; what is wrong with the second must come out in time."""
    index = _sharded(tmp_path, _net())
    second = tmp_path / "model-00002-of-00002.safetensors"
    content = json.loads(index.read_text())
    if fault == "truncated":
        second.write_bytes(second.read_bytes()[:-8])
    elif fault == "gone":
        second.unlink()
    elif fault == "index":
        index.write_text(index.read_text()[:40])
    elif fault == "elsewhere":
        content["weight_map"]["head.weight"] = "../other.safetensors"
        index.write_text(json.dumps(content))
    else:
        content["weight_map"]["ghost"] = second.name
        index.write_text(json.dumps(content))
    text = {
        "truncated": "not a whole .safetensors file .*: fetch it again",
        "gone": "there is no file .*00002-of-00002.*: check the path",
        "index": "is no index of a checkpoint",
        "elsewhere": "names '../other.safetensors', which lies elsewhere",
        "not held": "does not hold 'ghost'",
    }[fault]
    _unchanged(_net(), index, text)


def test_a_folder_of_pickles_is_refused(tmp_path):
    """It names what it found."""
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    _unchanged(_net(), tmp_path, r"holds not one checkpoint but pytorch_model.bin: pass the path")


def test_the_checkpoint_of_another_model_is_refused():
    """Nothing fits, so that nothing would be loaded; the cure for a prefix is named."""
    values = {f"module.{name}": value for name, value in _net().state_dict().items()}
    _unchanged(
        _net(), values, r"none of the 9 tensors .* fits .*needs rename=\[\('module.\*', '\*'\)"
    )
    shapes = {"body.weight": torch.zeros(7, 7)}
    _unchanged(_net(), shapes, "none of the 1 tensors")
    _unchanged(_net(), {}, "the checkpoint holds no tensor")


def test_quantised_weights_are_refused():
    """Integers are not the values of a floating point weight."""
    values = _net().state_dict() | {"body.weight": torch.zeros(4, 4, dtype=torch.int8)}
    _unchanged(_net(), values, "'body.weight' is torch.float32 in the model and torch.int8")


def test_a_cast_is_reported():
    """By name, and in the printed report."""
    model = _net()
    report = lw.init.pretrained(model, _net().bfloat16().state_dict())
    assert report.cast["head.bias"] == ("float32", "bfloat16")
    assert "cast 8: from bfloat16 to float32" in str(report).splitlines()


@pytest.mark.parametrize(
    ("rules", "source", "name"),
    [
        ([("module.*", "*")], "module.body.weight", "body.weight"),
        ([("*.gamma", "*.weight")], "norm.gamma", "norm.weight"),
        ([("enc.*.attn.*", "blocks.*.*")], "enc.3.attn.q.weight", "blocks.3.q.weight"),
        ({"a.*": "b.*", "b.*": "c.*"}, "a.x", "c.x"),
        ([(r"^a\.(\d+)", r"b.\1")], "a.1.w", "b.1.w"),
        ([("a.*", "b.*")], "xa.w", "xa.w"),
    ],
)
def test_names_are_rewritten_by_globs_and_by_expressions(rules, source, name):
    """What a star stood for is kept; a glob means the whole name."""
    from lampwork.init.renaming import renamed

    # Every rule has to match something.
    matching = {"a.1": 0, "enc.0.attn.k": 0, "module.x": 0, "y.gamma": 0}
    assert next(iter(renamed({source: 1} | matching, rules))) == name


@pytest.mark.parametrize(
    ("rule", "error", "match"),
    [
        (("a.*", "*.*"), InputError, "1 \\* on one side and 2 on the other"),
        (("(", ""), InputError, "is no regular expression"),
        (("bodies.*", "*"), NameNotFound, "'bodies.\\*' matches no name"),
        ("body", InputError, "'body' is no rule"),
        ((r"body", r"\3"), InputError, "cannot be carried out"),
    ],
)
def test_rules_that_cannot_be_meant_are_refused(rule, error, match):
    """Each with the rule as it was written."""
    _unchanged(_net(), _net().state_dict(), match, error, rename=[rule])


def test_what_was_not_loaded_is_initialised_and_nothing_else():
    """Missing and mismatched tensors; the plan says where the others come from."""
    trained, model = _net(classes=10), _net()
    values = trained.state_dict()
    del values["norm.weight"]
    report = lw.init.pretrained(model, values)
    plan = report.initialize_missing(seed=3)
    assert torch.equal(model["body"].weight, trained["body"].weight)
    fresh = _net()
    lw.init.initialize(fresh, seed=3)
    assert torch.equal(model["head"].weight, fresh["head"].weight)
    assert torch.equal(model["norm"].weight, torch.ones(4))
    rows = {row.name: row for row in plan.rows}
    assert rows["body.weight"].scheme == "keep"
    assert rows["body.weight"].reason == "loaded from a checkpoint"
    assert rows["head.weight"].scheme == "orthogonal"


def test_what_is_loaded_parts_a_chain_of_mirrored_units():
    """Its units are no mirrored pairs, so the layers after it may not take them for such."""
    model = nn.Sequential(*[part for _ in range(6) for part in (nn.Linear(8, 8), nn.ReLU())])
    assert {row.scheme for row in lw.init.plan(model).rows} == {"looks_linear", "zeros"}
    report = lw.init.pretrained(model, {"4.weight": torch.ones(8, 8)})
    schemes = [row.scheme for row in report.plan().rows if row.role == "weight"]
    assert schemes == ["orthogonal", "orthogonal", "keep", *["orthogonal"] * 3]


def test_a_rule_may_overrule_what_was_loaded():
    """A new head of the old shape."""
    trained, model = _net(), _net()
    report = lw.init.pretrained(model, trained.state_dict())
    report.initialize_missing(rules=[("head.weight", "zeros")])
    assert not model["head"].weight.any()
    assert torch.equal(model["body"].weight, trained["body"].weight)
