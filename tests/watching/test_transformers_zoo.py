"""Tiny models of transformers, from configurations, held to what holds for the zoo."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.watching import test_capture, test_extract
from tests.watching.specimen import Specimen

transformers = pytest.importorskip("transformers")

TOKENS, LENGTH = 40, 6
SIZES = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
}
GROUPED = {**SIZES, "num_key_value_heads": 1}
LANGUAGE = {"vocab_size": TOKENS, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}


def ids() -> Tensor:
    """Two sequences of token ids without special ones."""
    return torch.randint(3, TOKENS, (2, LENGTH))


def sequence_to_label() -> dict[str, Any]:
    """A classification of two sequences, the second one padded."""
    mask = torch.ones(2, LENGTH, dtype=torch.long)
    mask[1, 4:] = 0
    return {"input_ids": ids(), "attention_mask": mask, "labels": torch.tensor([0, 1])}


def next_token() -> dict[str, Any]:
    """Language modelling."""
    found = ids()
    return {"input_ids": found, "labels": found}


def sequence_to_sequence() -> dict[str, Any]:
    """Translation."""
    return {"input_ids": ids(), "labels": ids()}


def image() -> dict[str, Any]:
    """Classification of two images."""
    return {"pixel_values": torch.randn(2, 3, 8, 8), "labels": torch.tensor([0, 1])}


def sound() -> dict[str, Any]:
    """Transcription of two spectrograms."""
    return {"input_features": torch.randn(2, 4, 16), "labels": ids()}


def model(name: str, config: str, **options: Any) -> Callable[[], Any]:
    """A model with random weights."""
    return lambda: getattr(transformers, name)(
        getattr(transformers, config)(**{"use_cache": False, **options})
    )


WHISPER = {
    "num_mel_bins": 4,
    "d_model": 16,
    "encoder_layers": 1,
    "decoder_layers": 1,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 24,
    "decoder_ffn_dim": 24,
    "max_source_positions": 8,
    "max_target_positions": 16,
    "decoder_start_token_id": 1,
}
T5 = {"d_model": 16, "d_kv": 8, "d_ff": 24, "num_layers": 2, "num_heads": 2}
MODELS = {
    "BERT": (
        model("BertForSequenceClassification", "BertConfig", **LANGUAGE, **SIZES),
        sequence_to_label,
    ),
    "GPT-2": (
        model("GPT2LMHeadModel", "GPT2Config", n_embd=16, n_layer=2, n_head=2, **LANGUAGE),
        next_token,
    ),
    "Llama": (model("LlamaForCausalLM", "LlamaConfig", **LANGUAGE, **GROUPED), next_token),
    "Mixtral": (
        model("MixtralForCausalLM", "MixtralConfig", num_local_experts=3, **LANGUAGE, **GROUPED),
        next_token,
    ),
    "ViT": (
        model("ViTForImageClassification", "ViTConfig", image_size=8, patch_size=4, **SIZES),
        image,
    ),
    "T5": (
        model("T5ForConditionalGeneration", "T5Config", decoder_start_token_id=0, **LANGUAGE, **T5),
        sequence_to_sequence,
    ),
    "Whisper": (
        model("WhisperForConditionalGeneration", "WhisperConfig", **LANGUAGE, **WHISPER),
        sound,
    ),
}


@pytest.fixture(params=MODELS)
def specimen(request: pytest.FixtureRequest) -> Specimen:
    """Each in turn."""
    build, keywords = MODELS[request.param]
    return Specimen(build, tuple, keywords)


def test_every_captured_gradient_is_that_of_autograd(specimen: Specimen) -> None:
    """Inputs, outputs, parameters and their gradients are bitwise those of autograd by hand."""
    test_capture.test_values_and_gradients_are_those_of_autograd(specimen)
    test_capture.test_parameters_and_their_gradients_are_those_of_autograd(specimen)


def test_the_model_does_not_notice(specimen: Specimen) -> None:
    """Loss, gradients and random state are bitwise those without us."""
    test_capture.test_the_model_does_not_notice(specimen)


def test_every_module_can_be_extracted(specimen: Specimen) -> None:
    """Features from a call that ends early equal those of a whole pass."""
    test_extract.test_every_architecture_gives_what_capture_sees(specimen)
