"""Tiny random models of several families, and extensions written as `neutral export` writes them."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

D, LAYERS, VOCAB, UNITS = 24, 3, 83, 10
FAMILIES = ("llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2", "gemma3_text")


def make_base(family: str = "llama", dtype: torch.dtype = torch.float32) -> PreTrainedModel:
    """Drawn large enough that every layer bends its input."""
    config = AutoConfig.for_model(
        family,
        vocab_size=VOCAB,
        hidden_size=D,
        intermediate_size=32,
        num_hidden_layers=LAYERS,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        max_position_embeddings=64,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
    )
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager")
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() == 2:
                weight.normal_(std=1.2 / math.sqrt(weight.shape[1]))
    return model.to(dtype).eval()


def make_config(**changes: Any) -> dict[str, Any]:
    """`extension_config.json` of neutral residues beside the FFN; `changes` go to the top level."""
    method = {
        "kind": "neutral_residues",
        "budget": "20%",
        "gate": {"activation": "relu", "per": "token"},
        "local_loss": {"kind": "l1", "weight": 1.0},
        "placement": "ffn",
        "start": "low_variance",
    }
    base = {"model_type": "llama", "d_model": D, "n_layers": LAYERS, "vocab_size": VOCAB, "name": "tiny"}
    config = {
        "format": "neutral-extension",
        "format_version": 1,
        "method": method,
        "units": UNITS,
        "activation": "silu",
        "base": base,
        "made_by": "neutral 0.1.0",
    }
    return config | changes


def make_tensors(config: dict[str, Any], seed: int = 1) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator) * (
            0.5 if len(shape) == 1 else 1.2 / math.sqrt(shape[-1])
        )

    method, tensors = config["method"], {}
    gate = method.get("gate", {"activation": "none"})
    sub_layer = "self_attn" if method["placement"] == "attention" else "mlp"
    for i in range(LAYERS):
        prefix = f"layers.{i}.{sub_layer}.adapter."
        tensors |= {
            prefix + "w_i": draw(UNITS, D),
            prefix + "w_g": draw(UNITS, D),
            prefix + "w_o": draw(D, UNITS),
        }
        if gate["activation"] == "none":
            continue
        channel = gate["per"] == "channel"
        prefix = f"{sub_layer}.adapter.gate." if gate.get("shared") else f"{prefix}gate."
        tensors[prefix + "weight"] = draw(D, D) if channel else draw(D)
        if "bias" in gate:
            tensors[prefix + "bias"] = torch.full((D if channel else 1,), gate["bias"])
    return tensors


WriteExtension = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> WriteExtension:
    """Writes a folder of a config and tensors, by default those that the config asks for."""

    def write(config: dict[str, Any] | None = None, tensors: dict[str, torch.Tensor] | None = None) -> Path:
        config = make_config() if config is None else config
        folder = tmp_path / f"extension-{len(list(tmp_path.iterdir()))}"
        folder.mkdir()
        (folder / "extension_config.json").write_text(json.dumps(config))
        save_file(make_tensors(config) if tensors is None else tensors, folder / "extension.safetensors")
        return folder

    return write


@pytest.fixture
def tokens() -> torch.Tensor:
    return torch.randint(3, VOCAB, (2, 11), generator=torch.Generator().manual_seed(2))
