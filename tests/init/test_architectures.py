"""Plans of real architectures, held against labels that were written by hand."""

from fnmatch import fnmatchcase

import pytest
import torch
from torch import nn

import lampwork as lw
from lampwork.init.defaults import WEIGHTS
from tests.init.architectures import ARCHITECTURES

pytest.importorskip("transformers")
pytestmark = pytest.mark.filterwarnings("ignore")

by_name = pytest.mark.parametrize("name", ARCHITECTURES)


@by_name
def test_every_parameter_and_buffer_of_an_architecture_is_planned(name):
    """Each of them is in one row, by its first or by a tied name, and can be written."""
    model, example = ARCHITECTURES[name].build()
    plan = lw.init.plan(model, example)
    planned = {n for row in plan.rows for n in (row.name, *row.tied)}
    names = [n for n, _ in model.named_parameters(remove_duplicate=False)]
    assert planned >= {*names, *(n for n, _ in model.named_buffers(remove_duplicate=False))}
    assert len({row.name for row in plan.rows}) == len(plan.rows)
    plan.apply(seed=0)
    assert all(torch.isfinite(p).all() for p in model.parameters())


@by_name
def test_consumers_and_closed_branches_are_those_that_a_reader_finds(name):
    """Compared with labels written from the architecture."""
    architecture = ARCHITECTURES[name]
    model, example = architecture.build()
    rows = [r for r in lw.init.plan(model, example).rows if r.role in (*WEIGHTS, "norm")]
    weights = [row for row in rows if row.role in WEIGHTS]
    wrong = {
        row.name: (row.nonlinearity, architecture.label(row.name))
        for row in weights
        if row.nonlinearity != architecture.label(row.name)
    }
    assert wrong == {}
    assert len({row.nonlinearity for row in weights}) >= 2
    closing = {row.name for row in rows if row.residual}
    assert closing == {row.name for row in rows if architecture.closes(row.name)}
    assert closing


@by_name
def test_a_plan_from_meta_is_the_plan_of_the_real_model(name):
    """Names, fans, consumers, depths and stacked matrices are told without any memory."""
    model, example = ARCHITECTURES[name].build()
    with torch.device("meta"):
        empty, _ = ARCHITECTURES[name].build()
    told = [
        "name",
        "shape",
        "role",
        "fan_in",
        "fan_out",
        "nonlinearity",
        "residual",
        "tied",
        "depth",
        "parts",
    ]
    real, meta = (
        [[getattr(r, field) for field in told] for r in lw.init.plan(m, example).rows]
        for m in (model, empty)
    )
    assert meta == real


def test_stacked_matrices_have_the_fans_of_one():
    """GPT-2's q, k and v lie along its columns, Mixtral's experts hold two matrices each."""
    model, example = ARCHITECTURES["GPT-2"].build()
    rows = {row.name: row for row in lw.init.plan(model, example).rows}
    packed = rows["transformer.h.0.attn.c_attn.weight"]
    assert (packed.role, packed.fan_in, packed.fan_out, packed.parts) == ("packed", 16, 16, (1, 3))
    up = rows["transformer.h.0.mlp.c_fc.weight"]
    assert (up.role, up.fan_in, up.fan_out) == ("weight", 16, 64)

    mixtral = ARCHITECTURES["Mixtral"]
    model, example = mixtral.build()
    rows = [row for row in lw.init.plan(model, example).rows if "experts" in row.name]
    assert all(any(fnmatchcase(row.name, glob) for glob in mixtral.experts) for row in rows)
    told = {row.name.rpartition(".")[2]: (row.role, row.fan_in, row.fan_out) for row in rows}
    assert told == {"gate_up_proj": ("expert", 16, 32), "down_proj": ("expert", 32, 16)}
    assert {row.parts for row in rows} == {(0, 2), (0,)}


def test_without_an_example_a_layer_that_stores_its_weight_as_in_by_out_is_known():
    """GPT-2's Conv1D, told by its type; its q, k and v by their width."""
    model, _ = ARCHITECTURES["GPT-2"].build()
    rows = {row.name: row for row in lw.init.plan(model).rows}
    packed = rows["transformer.h.0.attn.c_attn.weight"]
    assert (packed.fan_in, packed.fan_out, packed.parts) == (16, 16, (1, 3))
    assert rows["transformer.h.0.mlp.c_proj.weight"].fan_in == 64


def test_orthogonal_matrices_are_drawn_part_by_part():
    """Each expert's two matrices, and each of q, k and v, is orthogonal in itself."""
    model, example = ARCHITECTURES["Mixtral"].build()
    lw.init.initialize(model, example, scheme="orthogonal")
    gate_up = model.model.layers[0].mlp.experts.gate_up_proj
    for matrix in gate_up.view(8, 32, 16):
        assert torch.allclose(matrix.T @ matrix, torch.eye(16), atol=1e-5)
    model, example = ARCHITECTURES["GPT-2"].build()
    lw.init.initialize(model, example, scheme="orthogonal")
    for matrix in model.transformer.h[0].attn.c_attn.weight.chunk(3, 1):
        assert torch.allclose(matrix.T @ matrix, torch.eye(16), atol=1e-5)


class Fused(nn.Module):
    """q, k and v from one layer, as timm and torch's documentation write it."""

    def __init__(self, how):
        super().__init__()
        self.qkv, self.out, self._how = nn.Linear(8, 24), nn.Linear(8, 8), how

    def forward(self, x):
        q, k, v = self._how(self.qkv(x))
        return x + self.out(torch.softmax(q @ k.transpose(-2, -1), -1) @ v)


@pytest.mark.parametrize(
    "how",
    [
        lambda qkv: qkv.chunk(3, -1),
        lambda qkv: qkv.split(8, dim=-1),
        lambda qkv: qkv.unflatten(-1, (3, 8)).unbind(-2),
        lambda qkv: qkv.view(3, 5, 3, 8).permute(2, 0, 1, 3).unbind(0),
        lambda qkv: [qkv.view(3, 5, 3, 8).permute(2, 0, 1, 3)[n] for n in range(3)],
    ],
)
def test_a_layer_whose_output_is_cut_into_parts_is_packed(how):
    """However it is cut; a batch of three is no cut."""
    rows = {row.name: row for row in lw.init.plan(Fused(how), torch.ones(3, 5, 8)).rows}
    packed = rows["qkv.weight"]
    assert (packed.role, packed.fan_in, packed.fan_out, packed.parts) == ("packed", 8, 8, (3,))
    assert rows["out.weight"].role == "weight"


def test_a_batch_that_is_taken_apart_is_no_cut():
    """Rows of the batch are not matrices of the layer."""

    class Rows(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(4, 6)

        def forward(self, x):
            a, b, c = self.fc(x).unbind(0)
            return a + b + c

    (weight, _) = lw.init.plan(Rows(), torch.ones(3, 4)).rows
    assert (weight.role, weight.fan_out, weight.parts) == ("weight", 6, ())
