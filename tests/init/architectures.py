"""Eight architectures of transformers, built tiny from their configs, with labels by hand.

The labels were written from reading each architecture's code and paper, not from a plan: what
consumes the output of each weight, and which weights close a residual branch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import nn

TOKENS = 50


@dataclass(frozen=True)
class Architecture:
    """A model, the example that it takes, and what is known of it.

    Attributes:
        build: makes the model and an example.
        labels: glob over weights → what consumes their output; of several that match the last
            counts, as with rules.
        closing: globs of the weights, and of the scales of normalisations, that end a branch.
        experts: globs of tensors that hold one matrix per expert.
    """

    build: Callable[[], tuple[nn.Module, Any]]
    labels: dict[str, str]
    closing: tuple[str, ...]
    experts: tuple[str, ...] = ()

    def label(self, name: str) -> str:
        """What consumes the output of that weight."""
        return [label for glob, label in self.labels.items() if fnmatchcase(name, glob)][-1]

    def closes(self, name: str) -> bool:
        """Whether that weight or scale ends a residual branch."""
        return any(fnmatchcase(name, glob) for glob in self.closing)


def _tokens() -> torch.Tensor:
    return torch.arange(14).view(2, 7)


def _bert() -> tuple[nn.Module, Any]:
    from transformers import BertConfig, BertForSequenceClassification

    config = BertConfig(
        vocab_size=TOKENS,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=16,
    )
    return BertForSequenceClassification(config), {"input_ids": _tokens()}


def _gpt2() -> tuple[nn.Module, Any]:
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(
        vocab_size=TOKENS,
        n_embd=16,
        n_layer=2,
        n_head=2,
        n_positions=16,
        bos_token_id=0,
        eos_token_id=0,
    )
    return GPT2LMHeadModel(config), {"input_ids": _tokens()}


def _llama() -> tuple[nn.Module, Any]:
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=TOKENS,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        intermediate_size=32,
        max_position_embeddings=16,
    )
    return LlamaForCausalLM(config), {"input_ids": _tokens()}


def _vit() -> tuple[nn.Module, Any]:
    from transformers import ViTConfig, ViTForImageClassification

    config = ViTConfig(
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        image_size=16,
        patch_size=4,
    )
    return ViTForImageClassification(config), {"pixel_values": torch.ones(2, 3, 16, 16)}


def _resnet() -> tuple[nn.Module, Any]:
    from transformers import ResNetConfig, ResNetForImageClassification

    config = ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 2], layer_type="basic")
    return ResNetForImageClassification(config), {"pixel_values": torch.ones(2, 3, 32, 32)}


def _t5() -> tuple[nn.Module, Any]:
    from transformers import T5Config, T5ForConditionalGeneration

    config = T5Config(
        vocab_size=TOKENS,
        d_model=16,
        d_kv=8,
        d_ff=32,
        num_layers=2,
        num_heads=2,
        decoder_start_token_id=0,
    )
    example = {"input_ids": _tokens(), "decoder_input_ids": _tokens()}
    return T5ForConditionalGeneration(config), example


def _whisper() -> tuple[nn.Module, Any]:
    from transformers import WhisperConfig, WhisperForConditionalGeneration

    config = WhisperConfig(
        vocab_size=TOKENS,
        num_mel_bins=8,
        d_model=16,
        encoder_layers=2,
        decoder_layers=2,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=32,
        decoder_ffn_dim=32,
        max_source_positions=8,
        max_target_positions=16,
        pad_token_id=0,
        bos_token_id=0,
        eos_token_id=0,
        decoder_start_token_id=0,
        suppress_tokens=None,
        begin_suppress_tokens=None,
    )
    example = {"input_features": torch.ones(2, 8, 16), "decoder_input_ids": _tokens()}
    return WhisperForConditionalGeneration(config), example


def _mixtral() -> tuple[nn.Module, Any]:
    from transformers import MixtralConfig, MixtralForCausalLM

    config = MixtralConfig(
        vocab_size=TOKENS,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        intermediate_size=32,
        max_position_embeddings=16,
        num_local_experts=4,
    )
    return MixtralForCausalLM(config), {"input_ids": _tokens()}


ARCHITECTURES = {
    "BERT": Architecture(
        _bert,
        {"*": "linear", "*.intermediate.dense.weight": "gelu", "*.pooler.dense.weight": "tanh"},
        ("*.attention.output.dense.weight", "*.layer.?.output.dense.weight"),
    ),
    "GPT-2": Architecture(
        _gpt2,
        {"*": "linear", "*.mlp.c_fc.weight": "gelu"},
        ("*.attn.c_proj.weight", "*.mlp.c_proj.weight"),
    ),
    "Llama": Architecture(
        _llama,
        {"*": "linear", "*.mlp.gate_proj.weight": "silu"},
        ("*.self_attn.o_proj.weight", "*.mlp.down_proj.weight"),
    ),
    "ViT": Architecture(
        _vit,
        {"*": "linear", "*.mlp.fc1.weight": "gelu"},
        ("*.attention.o_proj.weight", "*.mlp.fc2.weight"),
    ),
    "ResNet": Architecture(
        _resnet,
        # What the last convolution of a branch and the projected skip give is added, then met.
        {"*.convolution.weight": "relu", "classifier.*": "linear"},
        ("*.layer.1.convolution.weight", "*.layer.1.normalization.weight"),
    ),
    "T5": Architecture(
        _t5,
        {"*": "linear", "*.DenseReluDense.wi.weight": "relu"},
        ("*Attention.o.weight", "*.DenseReluDense.wo.weight"),
    ),
    "Whisper": Architecture(
        _whisper,
        {"*": "linear", "*.conv?.weight": "gelu", "*.fc1.weight": "gelu"},
        ("*.out_proj.weight", "*.fc2.weight"),
    ),
    "Mixtral": Architecture(
        _mixtral,
        {"*": "linear", "*.experts.gate_up_proj": "silu"},
        ("*.self_attn.o_proj.weight", "*.experts.down_proj"),
        ("*.experts.*_proj",),
    ),
}
