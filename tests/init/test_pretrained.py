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


def test_a_whole_state_dict_is_loaded():
    """Parameters and buffers, and nothing is reported beside."""
    source, model = _net(), _net()
    report = lw.init.pretrained(model, source.state_dict())
    assert report.loaded == list(model.state_dict())
    assert [*report.missing, *report.unexpected, *report.mismatched] == []
    assert all(torch.equal(v, model.state_dict()[k]) for k, v in source.state_dict().items())
    assert str(report) == "loaded 9 of 9"


def test_a_safetensors_file_is_loaded(tmp_path):
    """By path, given as text or as a Path."""
    source = _net()
    save_file(source.state_dict(), tmp_path / "weights.safetensors")
    for path in (tmp_path / "weights.safetensors", str(tmp_path / "weights.safetensors")):
        model = _net()
        assert len(lw.init.pretrained(model, path).loaded) == 9
        assert torch.equal(model["head"].weight, source["head"].weight)


def test_what_does_not_fit_is_reported_and_keeps_its_values():
    """Another number of classes, a tensor that is gone, one that is too many."""
    values = _net(classes=10).state_dict()
    del values["body.bias"]
    values["extra"] = torch.zeros(1)
    model = _net()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    report = lw.init.pretrained(model, values)
    assert report.missing == ["body.bias"]
    assert report.unexpected == ["extra"]
    assert report.mismatched == {"head.weight": ((3, 4), (10, 4)), "head.bias": ((3,), (10,))}
    for name in ("body.bias", "head.weight", "head.bias"):
        assert torch.equal(model.state_dict()[name], before[name])
    assert torch.equal(model["body"].weight, values["body.weight"])
    everything = [*report.loaded, *report.missing, *report.mismatched]
    assert sorted(everything) == sorted(model.state_dict())
    lines = str(report).splitlines()
    assert lines[:3] == ["loaded 6 of 9", "missing 1: body.bias", "unexpected 1: extra"]
    assert lines[3] == "mismatched head.weight: (3, 4) in the model, (10, 4) in the checkpoint"


def test_values_are_cast_to_the_models_dtype():
    """A float32 checkpoint in a bfloat16 model."""
    model, source = _net().bfloat16(), _net()
    lw.init.pretrained(model, source.state_dict())
    assert torch.equal(model["body"].weight, source["body"].weight.bfloat16())
    assert model["body"].weight.requires_grad


def test_names_are_rewritten_by_regular_expressions_in_turn():
    """The prefix of a wrapper, then the name of a part."""
    values = {f"module.{name}": value for name, value in _net().state_dict().items()}
    values = {name.replace("body", "backbone"): value for name, value in values.items()}
    report = lw.init.pretrained(
        _net(), values, rename=[(r"^module\.", ""), (r"^backbone\.(.*)", r"body.\1")]
    )
    assert len(report.loaded) == 9
    assert report.unexpected == []


def test_one_name_of_a_shared_tensor_is_enough():
    """Safetensors stores a shared tensor once; both of its names count as loaded."""
    model = nn.ModuleDict({"embed": nn.Embedding(5, 3), "head": nn.Linear(3, 5, bias=False)})
    model["head"].weight = model["embed"].weight
    for name in ("embed.weight", "head.weight"):
        report = lw.init.pretrained(model, {name: torch.full((5, 3), 2.0)})
        assert report.loaded == ["embed.weight", "head.weight"]
        assert report.missing == []
        assert model["embed"].weight.eq(2.0).all()
    same = {"embed.weight": torch.ones(5, 3), "head.weight": torch.ones(5, 3)}
    assert len(lw.init.pretrained(model, same).loaded) == 2


def test_two_values_for_a_shared_tensor_are_refused():
    """Whichever came last would win in silence; nothing is written."""
    model = nn.ModuleDict({"embed": nn.Embedding(5, 3), "head": nn.Linear(3, 5, bias=False)})
    model["head"].weight = model["embed"].weight
    before = model["embed"].weight.clone()
    values = {"embed.weight": torch.ones(5, 3), "head.weight": torch.zeros(5, 3)}
    with pytest.raises(
        InputError, match=r"'embed.weight' and 'head.weight' are one tensor .*untie"
    ):
        lw.init.pretrained(model, values)
    assert torch.equal(model["embed"].weight, before)


@pytest.mark.parametrize("name", ["model.pt", "model.pth", "pytorch_model.bin", "last.ckpt"])
def test_a_pickle_is_refused_with_its_cure(tmp_path, name):
    """Loading one can run any code; the user may decide to."""
    torch.save({}, tmp_path / name)
    with pytest.raises(InputError, match=rf"'{name}' is not .*torch.load\(path, weights_only=True"):
        lw.init.pretrained(_net(), tmp_path / name)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("nowhere.safetensors", "there is no file 'nowhere.safetensors': check the path"),
        ({"state_dict": {}, "epoch": 3}, r"is a dict itself: pass source\['state_dict'\]"),
        ({"epoch": 3}, "'epoch' of the checkpoint is a int, not a tensor: pass the state dict"),
        (_net(), "a ModuleDict is no checkpoint: pass a state dict, or the path"),
    ],
    ids=["no file", "nested", "not a tensor", "a module"],
)
def test_what_is_no_checkpoint_is_refused(source, message):
    """Each with its cure."""
    with pytest.raises(InputError, match=message):
        lw.init.pretrained(_net(), source)


def test_a_broken_file_is_told(tmp_path):
    """Half a download."""
    path = tmp_path / "weights.safetensors"
    save_file(_net().state_dict(), path)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(InputError, match=r"'weights.safetensors' is not a whole .safetensors file"):
        lw.init.pretrained(_net(), path)


def test_a_pattern_that_matches_nothing_is_an_error_with_the_nearest_names():
    """It would leave every name as it was, and nothing would be loaded."""
    with pytest.raises(NameNotFound, match=r"'heads' matches no name in .*head.weight"):
        lw.init.pretrained(_net(), _net().state_dict(), rename=[("heads", "body")])


def test_two_names_that_become_one_are_refused():
    """One of the two tensors would be lost."""
    with pytest.raises(
        InputError, match=r"gives two tensors the name 'x.weight': make the pattern"
    ):
        lw.init.pretrained(_net(), _net().state_dict(), rename=[(r"^\w+\.", "x.")])


def test_a_model_on_meta_is_refused():
    """It has no memory to load into."""
    with pytest.raises(InputError, match=r"'body.weight' is on meta .*to_empty"):
        lw.init.pretrained(_net().to("meta"), _net().state_dict())
