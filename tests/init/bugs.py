"""Silent bugs of initialisation that shipped, each as user code wrote it, with its mended twin.

The sources are issues and pull requests of the projects named. A twin differs from its bug in the
line that was at fault and in nothing else.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm

import lampwork as lw

WIDTH, TOKENS = 32, 40


@dataclass(frozen=True)
class Bug:
    """What shipped.

    Attributes:
        source: where it was reported.
        check: builds the model, with the bug or mended, and verifies it.
        code: of the finding that has to name it.
        where: glob of the tensor that the finding has to name; None for the model as a whole.
    """

    source: str
    check: Callable[[bool], Any]
    code: str
    where: str | None


def _noise(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


def _ids() -> torch.Tensor:
    return torch.randint(TOKENS, (8, 12), generator=torch.Generator().manual_seed(1))


class Block(nn.Module):
    """A pre-norm block of a GPT, its attention written out."""

    def __init__(self, norm: type[nn.Module] = nn.LayerNorm):
        super().__init__()
        self.ln_1, self.ln_2 = norm(WIDTH), norm(WIDTH)
        self.attn = nn.ModuleDict(
            {"c_attn": nn.Linear(WIDTH, 3 * WIDTH), "c_proj": nn.Linear(WIDTH, WIDTH)}
        )
        self.mlp = nn.ModuleDict(
            {"c_fc": nn.Linear(WIDTH, 4 * WIDTH), "c_proj": nn.Linear(4 * WIDTH, WIDTH)}
        )

    def forward(self, x):
        q, k, v = self.attn["c_attn"](self.ln_1(x)).chunk(3, dim=-1)
        x = x + self.attn["c_proj"](F.scaled_dot_product_attention(q, k, v, is_causal=True))
        return x + self.mlp["c_proj"](F.gelu(self.mlp["c_fc"](self.ln_2(x))))


class GPT(nn.Module):
    def __init__(self, layers: int = 6, norm: type[nn.Module] = nn.LayerNorm, tied: bool = True):
        super().__init__()
        self.wte = nn.Embedding(TOKENS, WIDTH)
        self.h = nn.ModuleList(Block(norm) for _ in range(layers))
        self.ln_f = norm(WIDTH)
        self.lm_head = nn.Linear(WIDTH, TOKENS, bias=False)
        if tied:
            self.lm_head.weight = self.wte.weight

    def forward(self, ids):
        x = self.wte(ids)
        for block in self.h:
            x = block(x)
        return self.lm_head(self.ln_f(x))


def _gpt_init(module: nn.Module, std: float = 0.02) -> None:
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=std)
    if isinstance(module, nn.Linear) and module.bias is not None:
        nn.init.zeros_(module.bias)


def gpt2_residual(mended: bool):
    """The scaling of residual projections compares a full name with its last part."""
    model = GPT().apply(_gpt_init)
    for name, parameter in model.named_parameters():
        if name.endswith("c_proj.weight") if mended else name == "c_proj.weight":
            nn.init.normal_(parameter, std=0.02 / math.sqrt(2 * len(model.h)))
    return lw.init.plan(model, _ids(), scheme="gpt2").verify(_ids(), _ids())


class SwiGLU(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = nn.RMSNorm(WIDTH)
        self.w1 = nn.Linear(WIDTH, 2 * WIDTH, bias=False)
        self.w2 = nn.Linear(2 * WIDTH, WIDTH, bias=False)
        self.w3 = nn.Linear(WIDTH, 2 * WIDTH, bias=False)

    def forward(self, x):
        h = self.norm(x)
        return x + self.w2(F.silu(self.w1(h)) * self.w3(h))


def llama2c_w3(mended: bool):
    """The gate's projection is scaled in place of the one that closes the branch."""
    model = nn.Sequential(*[SwiGLU() for _ in range(8)])
    for name, parameter in model.named_parameters():
        if parameter.dim() == 2:
            scaled = name.endswith("w2.weight" if mended else "w3.weight")
            nn.init.normal_(parameter, std=0.02 / math.sqrt(8) if scaled else 0.02)
    x = _noise(16, WIDTH)
    return lw.init.plan(model, x, scheme="gpt2").verify(x)


def encoder_clones(mended: bool):
    """nn.TransformerEncoder copies its layer, weights included."""
    layer = nn.TransformerEncoderLayer(WIDTH, 4, 64, batch_first=True)
    model = nn.TransformerEncoder(layer, 3, enable_nested_tensor=False)
    if mended:
        for parameter in model.parameters():
            if parameter.dim() > 1:
                nn.init.xavier_uniform_(parameter)
    x = _noise(8, 6, WIDTH)
    return lw.init.plan(model, x).verify(x)


def absolute_bounds(mended: bool):
    """trunc_normal_(std=0.02) is cut at ±2, which is ±100 standard deviations: not at all."""
    model = nn.Sequential(nn.Linear(WIDTH, 256), nn.GELU(), nn.Linear(256, 10))
    for parameter in model.parameters():
        if parameter.dim() == 2 and mended:
            nn.init.trunc_normal_(parameter, std=0.02, a=-0.04, b=0.04)
        elif parameter.dim() == 2:
            nn.init.trunc_normal_(parameter, std=0.02)
        else:
            nn.init.zeros_(parameter)
    x = _noise(32, WIDTH)
    return lw.init.plan(model, x, scheme=("trunc_normal", {"std": 0.02})).verify(x)


def outliers_in_bf16(mended: bool):
    """The inverse error function in bfloat16 gives infinity, which is clamped to -2."""
    layer = nn.Linear(256, 256, dtype=torch.bfloat16)
    uniform = torch.empty(256, 256).uniform_(-0.95449974, 0.95449974)
    values = uniform.erfinv() * math.sqrt(2.0) * 0.02
    if not mended:
        values.view(-1)[::20000] = -2.0
    layer.weight.data.copy_(values)
    nn.init.zeros_(layer.bias)
    x = _noise(16, 256).bfloat16()
    return lw.init.plan(layer, x, scheme=("trunc_normal", {"std": 0.02})).verify(x)


def weight_norm_no_op(mended: bool):
    """What is written into a parametrised weight is computed anew, and lost."""
    layer = nn.Linear(WIDTH, 64)
    layer = layer if mended else weight_norm(layer)
    with torch.no_grad():
        nn.init.normal_(layer.weight, std=0.01)
        nn.init.zeros_(layer.bias)
    layer = weight_norm(layer) if mended else layer
    x = _noise(16, WIDTH)
    return lw.init.plan(layer, x, scheme=("normal", {"std": 0.01})).verify(x)


def packed_fan(mended: bool):
    """Xavier for q, k and v in one matrix sees three times their outputs."""
    model = nn.MultiheadAttention(64, 4, batch_first=True)
    if mended:
        for part in model.in_proj_weight.detach().chunk(3):
            nn.init.xavier_uniform_(part)
    nn.init.xavier_uniform_(model.out_proj.weight)
    x = _noise(8, 6, 64)
    return lw.init.plan(model, (x, x, x), scheme="xavier_uniform").verify((x, x, x))


class Depthwise(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(64, 64, 3, padding=1, groups=64, bias=False)
        self.norm = nn.BatchNorm2d(64)
        self.head = nn.Linear(64, 10)

    def forward(self, x):
        return self.head(F.relu(self.norm(self.conv(x))).mean((2, 3)))


def depthwise_fan(mended: bool):
    """He by fan_out counts all channels, of which each has one filter of its own."""
    model = Depthwise()
    if mended:
        nn.init.kaiming_normal_(model.conv.weight, mode="fan_in", nonlinearity="relu")
    else:
        nn.init.kaiming_normal_(model.conv.weight, mode="fan_out", nonlinearity="relu")
    x = _noise(8, 64, 6, 6)
    return lw.init.plan(model, x).verify(x)


def transposed_fan(mended: bool):
    """A transposed convolution has its fans the other way round."""
    model = nn.Sequential(
        nn.Conv2d(3, 256, 1), nn.ReLU(), nn.ConvTranspose2d(256, 8, 4, stride=2, padding=1)
    )
    if mended:
        nn.init.normal_(model[2].weight, std=1 / math.sqrt(256 * 16 / 4))
    else:
        nn.init.kaiming_normal_(model[2].weight, nonlinearity="linear")
    nn.init.normal_(model[0].weight, std=1 / math.sqrt(3))
    x = _noise(4, 3, 6, 6)
    return lw.init.plan(model, x, scheme="lecun_normal").verify(x)


class Experts(nn.Module):
    def __init__(self, experts: int = 8):
        super().__init__()
        self.gate = nn.Linear(WIDTH, experts)
        self.w1 = nn.Parameter(torch.empty(experts, WIDTH, 64))
        self.w2 = nn.Parameter(torch.empty(experts, 64, WIDTH))

    def forward(self, x):
        hidden = F.relu(torch.einsum("bi,eio->ebo", x, self.w1))
        return torch.einsum("be,ebo->bo", self.gate(x).softmax(-1), torch.bmm(hidden, self.w2))


def expert_fan(mended: bool):
    """Of a tensor of experts the shape tells another layer's fans."""
    model = Experts()
    for parameter in (model.w1, model.w2):
        for part in parameter.detach() if mended else [parameter]:
            nn.init.kaiming_normal_(part.T if mended else part)
    x = _noise(32, WIDTH)
    return lw.init.plan(model, x).verify(x)


def _from_meta(content: str | None):
    """A model that was built on meta; its forgotten scales hold what the memory held."""
    with torch.device("meta"):
        model = GPT(2, nn.RMSNorm)
    model.to_empty(device="cpu")
    model.lm_head.weight = model.wte.weight
    model.apply(_gpt_init)
    for module in model.modules():
        if isinstance(module, nn.RMSNorm):
            if content is None:
                nn.init.ones_(module.weight)
            elif content == "zeros":
                module.weight.data.zero_()
            else:  # pointers, read as float32
                module.weight.data.view(torch.int32).fill_(32534)
    return model


def forgotten_norm(mended: bool):
    """After to_empty the initialiser knows Linear and Embedding, and no RMSNorm."""
    model = _from_meta(None if mended else "pointers")
    return lw.init.plan(model, _ids()).verify(_ids(), _ids())


def forgotten_norm_of_zeros(mended: bool):
    """The same on memory that the system had just cleared."""
    model = _from_meta(None if mended else "zeros")
    return lw.init.plan(model, _ids()).verify(_ids(), _ids())


def empty_parameter(mended: bool):
    """A parameter made by torch.empty that nobody fills, on memory that held NaN."""
    model = Experts()
    for part in (*model.w1.detach(), *model.w2.detach()):
        nn.init.kaiming_normal_(part.T)
    if not mended:
        model.w2.data.view(-1)[::7] = math.nan
    x = _noise(32, WIDTH)
    return lw.init.plan(model, x).verify(x)


def broken_tie(mended: bool):
    """to_empty gives each name of a tied tensor memory of its own."""
    with torch.device("meta"):
        model = GPT(2)
    plan = lw.init.plan(model, _ids())
    model.to_empty(device="cpu")
    if mended:
        model.lm_head.weight = model.wte.weight
    plan.apply()
    return plan.verify(_ids(), _ids())


def embedding_of_one(mended: bool):
    """nn.Embedding starts at N(0, 1), and with a tied head so do the logits' weights."""
    model = GPT(2).apply(_gpt_init)
    nn.init.normal_(model.wte.weight, std=0.02 if mended else 1.0)
    return lw.init.plan(model, _ids()).verify(_ids(), _ids().roll(1, dims=1))


def lstm_layer_missed(mended: bool):
    """The forget gate's bias is set for the first layer and direction alone."""
    model = nn.LSTM(16, WIDTH, num_layers=2, bidirectional=True, batch_first=True)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.startswith("bias"):
                nn.init.zeros_(parameter)
            if name.startswith("bias_ih") and (mended or name == "bias_ih_l0"):
                parameter[WIDTH : 2 * WIDTH] = 1.0
    x = _noise(8, 5, 16)
    return lw.init.plan(model, x).verify(x)


def pretrained_overwritten(mended: bool):
    """from_pretrained, then the init of the training script."""
    trained = GPT(2).apply(_gpt_init)
    model = GPT(2)
    if mended:
        model.apply(_gpt_init)
    lw.init.pretrained(model, trained.state_dict())
    if not mended:
        model.apply(_gpt_init)
    return lw.init.plan(model, _ids()).verify(_ids(), _ids())


class ZeroedBlock(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.out = nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, x):
        return x + self.out(F.silu(self.conv(x)))


def zero_module_overwritten(mended: bool):
    """Branches start at zero until the network's own init draws all convolutions."""
    model = nn.Sequential(*[ZeroedBlock() for _ in range(3)])
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d) and not (mended and name.endswith("out")):
            nn.init.kaiming_normal_(module.weight)
    x = _noise(4, 8, 6, 6)
    return lw.init.plan(model, x, rules=[("*.out.weight", "zeros")]).verify(x)


def snippet_misses_attention(mended: bool):
    """`weights_init_normal` asks for "Linear" in a class's name."""
    model = nn.TransformerEncoderLayer(WIDTH, 4, 64, batch_first=True)

    def weights_init_normal(module: nn.Module) -> None:
        if "Linear" in type(module).__name__:
            nn.init.normal_(module.weight, std=0.02)
        if mended and isinstance(module, nn.MultiheadAttention):
            nn.init.normal_(module.in_proj_weight, std=0.02)

    model.apply(weights_init_normal)
    x = _noise(8, 6, WIDTH)
    return lw.init.plan(model, x, scheme=("normal", {"std": 0.02})).verify(x)


def one_seed_for_all(mended: bool):
    """The init function seeds, so that layers of one shape are copies."""
    model = nn.Sequential(*[m for _ in range(3) for m in (nn.Linear(WIDTH, WIDTH), nn.ReLU())])

    def init(module: nn.Module) -> None:
        if isinstance(module, nn.Linear):
            if not mended:
                torch.manual_seed(0)
            nn.init.kaiming_normal_(module.weight)

    model.apply(init)
    x = _noise(32, WIDTH)
    return lw.init.plan(model, x).verify(x)


def _deep(depth: int) -> nn.Sequential:
    layers = [m for _ in range(depth) for m in (nn.Linear(64, 64), nn.ReLU())]
    return nn.Sequential(*layers, nn.Linear(64, 10))


def torchs_default(mended: bool):
    """a=√5 halves the signal's variance three times over in each ReLU layer."""
    model = _deep(12)
    if mended:
        for module in model:
            if isinstance(module, nn.Linear):
                nn.init.kaiming_normal_(module.weight)
                nn.init.zeros_(module.bias)
    x = _noise(32, 64)
    return lw.init.plan(model, x).verify(x)


def xavier_in_relu(mended: bool):
    """Xavier counts on a linear network: thirty ReLU layers stall."""
    model = _deep(30)
    for module in model:
        if isinstance(module, nn.Linear):
            nn.init.xavier_normal_(module.weight, gain=math.sqrt(2) if mended else 1.0)
            nn.init.zeros_(module.bias)
    x = _noise(32, 64)
    return lw.init.plan(model, x).verify(x)


def padding_row(mended: bool):
    """Drawing an embedding anew fills the row that stands for padding."""
    model = nn.Sequential(nn.Embedding(TOKENS, WIDTH, padding_idx=0), nn.Linear(WIDTH, 4))
    nn.init.normal_(model[0].weight, std=0.02)
    if mended:
        with torch.no_grad():
            model[0].weight[0].zero_()
    rules = [("0.weight", ("normal", {"std": 0.02}))]
    return lw.init.plan(model, _ids(), rules=rules).verify(_ids())


def saturated_tanh(mended: bool):
    """N(0, 1) before tanh: most of its values stand at ±1."""
    model = nn.Sequential(nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh())
    for module in (model[0], model[2]):
        nn.init.normal_(module.weight, std=1 / 8 if mended else 1.0)
    x = _noise(32, 64)
    return lw.init.plan(model, x).verify(x)


BUGS = {
    "gpt2_residual": Bug(
        "transformers #47458", gpt2_residual, "init-off-plan", "h.*.c_proj.weight"
    ),
    "llama2c_w3": Bug("llama2.c #579", llama2c_w3, "init-off-plan", "*.w[23].weight"),
    "encoder_clones": Bug("pytorch #72253, #86274", encoder_clones, "init-symmetric", "layers.1.*"),
    "absolute_bounds": Bug(
        "torchtitan #2269, pytorch #155588", absolute_bounds, "init-off-plan", "?.weight"
    ),
    "outliers_in_bf16": Bug("pytorch #155588", outliers_in_bf16, "init-off-plan", "weight"),
    "weight_norm_no_op": Bug("pytorch #180968", weight_norm_no_op, "init-off-plan", "weight"),
    "packed_fan": Bug("pytorch #166378", packed_fan, "init-off-plan", "in_proj_weight"),
    "depthwise_fan": Bug("pytorch #23854, timm #84", depthwise_fan, "init-off-plan", "conv.weight"),
    "transposed_fan": Bug("pytorch PR #30079", transposed_fan, "init-off-plan", "2.weight"),
    "expert_fan": Bug("torch.nn.init on 3-D weights", expert_fan, "init-off-plan", "w?"),
    "forgotten_norm": Bug("llm-foundry PR #1745", forgotten_norm, "init-unwritten", "*ln*.weight"),
    "forgotten_norm_of_zeros": Bug(
        "llm-foundry PR #1745", forgotten_norm_of_zeros, "init-zero", "*ln*.weight"
    ),
    "empty_parameter": Bug("RankPose #3, STALE #16", empty_parameter, "init-unwritten", "w2"),
    "broken_tie": Bug("accelerate #3668", broken_tie, "init-untied", "wte.weight"),
    "embedding_of_one": Bug(
        "pytorch #3121, transformers PR #26441", embedding_of_one, "init-loss-high", None
    ),
    "lstm_layer_missed": Bug(
        "flood-forecasting PR #289", lstm_layer_missed, "init-off-plan", "bias_ih_l*"
    ),
    "pretrained_overwritten": Bug(
        "transformers #46620, mmengine PR #555", pretrained_overwritten, "init-off-plan", "wte.*"
    ),
    "zero_module_overwritten": Bug(
        "Palette #71", zero_module_overwritten, "init-off-plan", "*.out.weight"
    ),
    "snippet_misses_attention": Bug(
        "weights_init_normal", snippet_misses_attention, "init-off-plan", "*in_proj_weight"
    ),
    "one_seed_for_all": Bug("keras, documented", one_seed_for_all, "init-symmetric", "2.weight"),
    "torchs_default": Bug("pytorch #18182, #15314", torchs_default, "init-vanishing", "*"),
    "xavier_in_relu": Bug("He et al. 2015, figure 3", xavier_in_relu, "init-vanishing", "*"),
    "padding_row": Bug("nn.Embedding, documented", padding_row, "init-off-plan", "0.weight"),
    "saturated_tanh": Bug("Glorot & Bengio 2010", saturated_tanh, "act-saturated", "1"),
}
