import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

from lampwork._core.errors import InputError
from lampwork.init.survey import survey


def _names(model):
    return [site.name for site in survey(model)]


def test_every_parameter_and_buffer_is_one_site_in_order_of_registration():
    """Compared with torch's own lists."""
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Linear(4, 2))
    own = {*dict(model.named_parameters()), *dict(model.named_buffers())}
    assert set(_names(model)) == own
    assert [name for name in _names(model) if name.endswith("weight")] == [
        name for name, _ in model.named_parameters() if name.endswith("weight")
    ]


def test_a_shared_tensor_is_one_site_and_an_embedding_wherever_it_is_one():
    """Whether the head or the embedding was registered first."""
    embedding, head = nn.Embedding(5, 3, padding_idx=1), nn.Linear(3, 5, bias=False)
    head.weight = embedding.weight
    for order in ([("embed", embedding), ("head", head)], [("head", head), ("embed", embedding)]):
        (site,) = survey(nn.ModuleDict(order))
        assert site.kind.role == "embedding"
        assert site.module is embedding
        assert site.names == tuple(f"{name}.weight" for name, _ in order)


def test_a_shared_module_has_both_names():
    """The second place of a module is told as well."""
    layer = nn.Linear(3, 3)
    weight, bias = survey(nn.Sequential(layer, nn.ReLU(), layer))
    assert weight.names == ("0.weight", "2.weight")
    assert bias.names == ("0.bias", "2.bias")


def test_a_parametrised_weight_is_one_site_under_the_layers_name():
    """The raw tensors are its other names; the parametrisation's buffers are buffers."""
    model = nn.Sequential(
        parametrizations.weight_norm(nn.Linear(3, 2)),
        parametrizations.spectral_norm(nn.Conv1d(2, 4, 3)),
    )
    sites = {site.name: site for site in survey(model)}
    assert sites["0.weight"].tied == (
        "0.parametrizations.weight.original0",
        "0.parametrizations.weight.original1",
    )
    assert (sites["0.weight"].kind.role, sites["0.weight"].kind.fan_in) == ("weight", 3)
    assert tuple(sites["1.weight"].shape) == (4, 2, 3)
    assert sites["1.parametrizations.weight.0._u"].kind.role == "buffer"
    covered = {name for site in sites.values() for name in site.names}
    assert {name for name, _ in model.named_parameters()} <= covered


def test_looking_at_a_spectral_norm_does_not_move_its_buffers():
    """In training mode each look at such a weight is a step of power iteration."""
    layer = parametrizations.spectral_norm(nn.Linear(6, 6)).train()
    before = [buffer.clone() for buffer in layer.buffers()]
    survey(layer)
    assert all(map(torch.equal, before, layer.buffers()))
    assert all(module.training for module in layer.modules())


def test_a_lazy_parameter_is_refused_with_its_cure():
    """It has no shape to plan for."""
    with pytest.raises(InputError, match=r"'0.weight' is lazy and has no shape yet: run one batch"):
        survey(nn.Sequential(nn.LazyLinear(3)))
