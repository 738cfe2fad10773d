import pytest
import torch
from torch import nn
from torch.nn import functional as F

import lampwork as lw
from lampwork._core.errors import InputError
from lampwork.init.recipes import RECIPES


class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x):
        return x + self.down(F.gelu(self.up(self.norm(x))))


class Tokens(nn.Module):
    """A little language model of two branches, with its readout tied or not."""

    def __init__(self, tied=False, width=16):
        super().__init__()
        self.embed = nn.Embedding(11, width)
        self.blocks = nn.ModuleList([Block(width), Block(width)])
        self.head = nn.Linear(width, 11, bias=False)
        if tied:
            self.head.weight = self.embed.weight

    def forward(self, tokens):
        x = self.embed(tokens)
        for block in self.blocks:
            x = block(x)
        return self.head(x)


class Residual(nn.Module):
    """Two blocks of a residual network, the first with a projected skip."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        sizes = ((4, 8), (8, 8))
        self.blocks = nn.ModuleList(
            nn.ModuleDict(
                {
                    "one": nn.Conv2d(a, b, 3, padding=1),
                    "norm": nn.BatchNorm2d(b),
                    "two": nn.Conv2d(b, b, 3, padding=1),
                    "last": nn.BatchNorm2d(b),
                }
            )
            for a, b in sizes
        )
        self.skip = nn.Conv2d(4, 8, 1)
        self.head = nn.Linear(8, 10)

    def forward(self, x):
        x = self.stem(x)
        for block in self.blocks:
            y = block["last"](block["two"](F.relu(block["norm"](block["one"](x)))))
            x = F.relu(y + (self.skip(x) if x.shape[1] == 4 else x))
        return self.head(x.mean((2, 3)))


IDS, IMAGES = torch.zeros(2, 3, dtype=torch.long), torch.ones(2, 3, 8, 8)


def _rows(model, example, scheme, **options):
    return {row.name: row for row in lw.init.plan(model, example, scheme=scheme, **options).rows}


def test_gpt2_scales_what_closes_a_branch_by_their_number():
    """Two branches here: 0.02/√2; biases 0, norms 1, everything else 0.02."""
    rows = _rows(Tokens(), IDS, "gpt2")
    stds = {name: row.std for name, row in rows.items() if row.scheme == "normal"}
    closing = {"blocks.0.down.weight", "blocks.1.down.weight"}
    assert {stds[name] for name in closing} == {0.02 / 2**0.5}
    assert {std for name, std in stds.items() if name not in closing} == {0.02}
    assert len(stds) == 6
    assert "one of 2 residual branches" in rows["blocks.0.down.weight"].reason


def test_gpt2_counts_the_branches_of_each_stack_of_transformers_models():
    """GPT-2 has two in each of two layers; T5's decoder has three in each, its encoder two."""
    pytest.importorskip("transformers")
    from tests.init.architectures import ARCHITECTURES

    rows = _rows(*ARCHITECTURES["GPT-2"].build(), "gpt2")
    closing = [row for row in rows.values() if row.residual and row.role != "norm"]
    assert [row.name.partition("h.")[2] for row in closing] == [
        f"{n}.{layer}.c_proj.weight" for n in (0, 1) for layer in ("attn", "mlp")
    ]
    assert {row.std for row in closing} == {0.01}
    rows = _rows(*ARCHITECTURES["T5"].build(), "gpt2")
    found = {n.partition(".")[0]: r.std for n, r in rows.items() if r.residual and r.role != "norm"}
    assert found == {"encoder": 0.02 / 4**0.5, "decoder": 0.02 / 6**0.5}


def test_bert_and_vit_cut_their_normals():
    """Truncated at two standard deviations; ViT's class token is near 0, its patches LeCun's."""
    rows = _rows(Tokens(), None, "bert")
    assert rows["embed.weight"].scheme == rows["head.weight"].scheme == "trunc_normal"
    assert rows["blocks.0.up.bias"].scheme == "zeros"
    pytest.importorskip("transformers")
    from tests.init.architectures import ARCHITECTURES

    rows = _rows(*ARCHITECTURES["ViT"].build(), "vit")
    assert rows["vit.embeddings.cls_token"].std == 1e-6
    patches = rows["vit.embeddings.patch_embeddings.projection.weight"]
    assert (patches.scheme, patches.std) == ("lecun_normal", pytest.approx(48**-0.5))
    assert rows["vit.embeddings.position_embeddings"].scheme == "trunc_normal"


def test_resnet_starts_its_branches_at_zero():
    """He by fan_out, γ=0 where a branch ends, 1 elsewhere; the blocks are then identities."""
    model = Residual()
    rows = _rows(model, IMAGES, "resnet")
    assert rows["blocks.0.one.weight"].std == pytest.approx((2 / (8 * 9)) ** 0.5)
    scales = {
        name: row.scheme for name, row in rows.items() if name.endswith(("last.weight", "m.w"))
    }
    assert set(scales.values()) == {"zeros"}
    assert rows["blocks.0.norm.weight"].scheme == "ones"
    assert rows["head.weight"].std == 0.01
    lw.init.initialize(model, IMAGES, scheme="resnet")
    x = F.relu(model.skip(model.stem(IMAGES)))
    assert torch.allclose(model.eval()(IMAGES), model.head(x.mean((2, 3))), atol=1e-6)


def test_mup_keeps_its_width_out_of_the_readout():
    """Hidden 1/√fan_in with the consumer's gain, readout 1/fan_in, tokens 1."""
    for width in (16, 64):
        rows = _rows(Tokens(width=width), IDS, "mup")
        assert rows["embed.weight"].std == 1.0
        assert rows["head.weight"].std == pytest.approx(1 / width)
        assert rows["blocks.0.up.weight"].std == pytest.approx(1.4680112605 / width**0.5)
        assert rows["blocks.0.down.weight"].std == pytest.approx((4 * width) ** -0.5)


def test_fixup_scales_by_the_number_of_branches_and_of_their_layers():
    """Zhang's L^(-1/(2m-2)) for m=2 layers in each of L=2 branches, 0 at the ends."""
    rows = _rows(Residual(), IMAGES, "fixup")
    he = (2 / (4 * 9)) ** 0.5
    assert rows["blocks.0.one.weight"].std == pytest.approx(he * 2 ** (-1 / 2))
    zero = {name for name, row in rows.items() if row.scheme == "zeros" and row.role != "bias"}
    assert zero - {"blocks.0.last.bias", "blocks.1.last.bias"} >= {
        "blocks.0.two.weight",
        "blocks.1.two.weight",
        "head.weight",
    }
    assert rows["skip.weight"].std == pytest.approx((2 / 4) ** 0.5)
    assert rows["stem.weight"].scheme == "kaiming_normal"


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_recipe_can_be_applied_and_gives_way_to_rules(recipe):
    """All values are finite; a rule overrules a recipe."""
    model, example = (Residual(), IMAGES) if recipe in ("resnet", "fixup") else (Tokens(), IDS)
    lw.init.plan(model, example, scheme=recipe, rules=[("head.weight", "ones")]).apply()
    assert model.head.weight.eq(1).all()
    assert all(torch.isfinite(parameter).all() for parameter in model.parameters())


@pytest.mark.parametrize(
    ("scheme", "model", "example", "message"),
    [
        ("gpt2", Tokens, None, "'gpt2' depends on which layer closes a residual branch.*: pass an"),
        ("mup", Tokens, None, r"which layer is the readout.*plan\(model, example, scheme='mup'\)"),
        ("resnet", lambda: nn.Linear(3, 2), torch.ones(1, 3), "Linear has none: choose another"),
        ("mup", lambda: Tokens(tied=True), IDS, "'embed.weight' is both .head.weight.: untie them"),
        (("gpt2", {"std": 1.0}), Tokens, IDS, "'gpt2' takes no option 'std': its options are none"),
        ("gpt", Tokens, IDS, "no scheme 'gpt': did you mean 'gpt2'"),
    ],
)
def test_a_recipe_that_would_be_another_one_is_refused(scheme, model, example, message):
    """GPT-2 without its residual scaling was shipped for years: it must not be possible."""
    with pytest.raises(InputError, match=message):
        lw.init.plan(model(), example, scheme=scheme)
