"""Attention maps against softmax(QK^T/sqrt d) by hand and against what models give out."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from lampwork.watching.pictures import attention
from lampwork.watching.pictures.attention import Attention, small, weights
from lampwork.watching.pictures.forward import look
from lampwork.watching.pictures.probe import few


def seen(model, *args, **kwargs):
    """Maps by layer of a model that is called so."""
    return look(few("", model, (args, kwargs))).attention


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 2), st.integers(1, 3), st.integers(1, 9), st.integers(1, 9), st.integers(1, 5),
    st.sampled_from(["none", "causal", "bool", "float"]), st.sampled_from([None, 0.3]),
)  # fmt: skip
def test_weights_give_what_torch_computes(shared, keys, queries, length, width, masked, scale):
    """Map times values is what torch's attention puts out, with grouped queries and masks."""
    g = torch.Generator().manual_seed(queries * 10 + length)
    q = torch.randn(2, shared * keys, queries, width, generator=g)
    k, v = torch.randn(2, 2, keys, length, width, generator=g)
    mask = None
    if masked == "bool":
        mask = torch.rand(2, 1, queries, length, generator=g) > 0.3
        mask[..., 0] = True
    elif masked == "float":
        mask = torch.randn(queries, length, generator=g)
    causal = masked == "causal"
    options = {"attn_mask": mask, "is_causal": causal, "scale": scale, "enable_gqa": shared > 1}
    found = weights(q, k, v, **options)
    expected = F.scaled_dot_product_attention(q, k, v, **options)[:1]
    torch.testing.assert_close(found @ v[:1].repeat_interleave(shared, 1), expected)


def test_many_heads_and_queries_are_a_part_of_the_whole(monkeypatch):
    """Of many heads and queries the evenly spaced ones are those of the whole map."""
    monkeypatch.setattr(attention, "MOST_QUERIES", 5)
    q, k, v = torch.randn(3, 2, 29, 17, 4)
    full = (q[0] @ k[0].transpose(1, 2) / 2).masked_fill(
        ~torch.ones(17, 17).tril().bool(), -math.inf
    )
    expected = full.softmax(-1)[[0, 4, 8, 12, 16, 20, 24, 28]][:, [0, 4, 8, 12, 16]]
    torch.testing.assert_close(weights(q, k, v, is_causal=True)[0], expected)


@pytest.mark.parametrize("sides", [(64, 128), (100, 70), (3, 200), (64, 64)])
def test_small_maps_keep_each_row_a_distribution(sides):
    """Maps have at most 64 × 64 places; where sizes divide, neighbouring keys are added."""
    maps = torch.rand(2, *sides).softmax(-1)
    found = small(maps)
    assert found.shape == (2, min(sides[0], 64), min(sides[1], 64))
    torch.testing.assert_close(found.sum(-1), torch.ones(found.shape[:2]))
    if sides == (64, 128):
        torch.testing.assert_close(found, maps.unflatten(2, (64, 2)).sum(-1))


@pytest.mark.parametrize("need_weights", [False, True])
@pytest.mark.parametrize("batch_first", [False, True])
def test_multihead_attention_is_asked_for_its_weights(need_weights, batch_first):
    """nn.MultiheadAttention shows its weights, with both masks, and gives the same output."""
    model = nn.MultiheadAttention(8, 2, dropout=0.5, batch_first=batch_first).eval()
    x = torch.randn(3, 4, 8)
    masks = {
        "attn_mask": torch.ones(4, 4).triu(1).bool() if batch_first else None,
        "need_weights": need_weights,
    }
    expected = model(x, x, x, **masks | {"need_weights": True}, average_attn_weights=False)[1]
    plain = model(x, x, x, **masks)
    with Attention(3, lambda: "here") as mode:
        output = model(x, x, x, **masks)
    torch.testing.assert_close(output, plain)
    torch.testing.assert_close(mode.maps["here"], expected[0].detach())


def test_the_encoder_layer_of_torch_shows_its_attention():
    """The fused path of nn.TransformerEncoderLayer, which hides it, is not taken."""
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).eval()
    x = torch.randn(2, 5, 8)
    expected = layer.self_attn(x, x, x, average_attn_weights=False)[1]
    torch.testing.assert_close(seen(layer, x)["self_attn"], expected[0].detach())
    assert torch.backends.mha.get_fastpath_enabled()


class WrittenOut(nn.Module):
    """Attention by softmax."""

    def forward(self, x, flat=False):
        q = x.flatten(0, 1) if flat else x
        return torch.softmax(q @ q.transpose(-1, -2), -1) @ q


@pytest.mark.parametrize("flat", [False, True])
def test_attention_that_is_written_out_is_seen(flat):
    """A softmax over (examples, heads, queries, keys), or with the first two in one, is a map."""
    x = torch.randn(2, 3, 6, 4)
    (found,) = seen(WrittenOut(), x, flat=flat).values()
    torch.testing.assert_close(found, (x @ x.transpose(2, 3)).softmax(-1)[0])


def test_a_softmax_over_classes_is_no_attention():
    """What a classifier puts out is not taken for a map."""
    assert seen(nn.Sequential(nn.Linear(4, 3), nn.Softmax(-1)), torch.randn(5, 7, 4)) == {}


transformers = pytest.importorskip("transformers")
SIZE = {"num_hidden_layers": 2, "num_attention_heads": 4, "hidden_size": 16}
TOKENS = {"vocab_size": 11, "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 2}


def gpt2(**options):
    """Causal, its own names for sizes."""
    config = transformers.GPT2Config(n_embd=16, n_layer=2, n_head=4, n_positions=16, **TOKENS)
    return transformers.GPT2Model._from_config(config, **options)


def llama(**options):
    """Two heads of keys for four of queries."""
    config = transformers.LlamaConfig(
        **SIZE, **TOKENS, intermediate_size=32, num_key_value_heads=2, max_position_embeddings=16
    )
    return transformers.LlamaModel._from_config(config, **options)


def bert(**options):
    """In both directions."""
    config = transformers.BertConfig(**SIZE, **TOKENS, intermediate_size=32)
    return transformers.BertModel._from_config(config, **options)


@pytest.mark.parametrize("make", [gpt2, llama, bert])
@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
def test_maps_of_transformers_are_their_output_attentions(make, implementation):
    """Under sdpa and eager, with padding, maps equal what eager attention itself gives out."""
    torch.manual_seed(0)
    model = make(attn_implementation="eager").eval()
    tokens = torch.randint(3, 11, (3, 7))
    mask = torch.ones_like(tokens)
    mask[0, 5:] = 0
    expected = model(tokens, attention_mask=mask, output_attentions=True).attentions
    model.set_attn_implementation(implementation)
    found = seen(model, tokens, attention_mask=mask)
    assert len(found) == 2
    for got, wanted in zip(found.values(), expected, strict=True):
        # Rows of padding see nothing of use, and both sides fill them as they like.
        torch.testing.assert_close(got[:, :5], wanted[0, :, :5].detach())
