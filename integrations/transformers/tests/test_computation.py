"""What an extended model computes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from conftest import FAMILIES, LAYERS, D, WriteExtension, make_base, make_config, make_tensors
from torch import nn

from neutral_transformers import gates, load_extension
from neutral_transformers.model import BlockGate

GATES = [{"activation": "none", "per": "token"}] + [
    {"activation": activation, "per": per, **bias}
    for activation in ("relu", "elu", "sigmoid", "hard_sigmoid")
    for per in ("token", "channel")
    for bias in ({}, {"bias": 0.75})
]
SHARED = {"activation": "relu", "per": "token", "bias": 0.5, "shared": True}
WINDOW = {"activation": "hard_sigmoid", "per": "token", "bias": 0.2, "shared": True, "window": 4}
CHANNELS = {"activation": "sigmoid", "per": "channel", "window": 3}


def config_of(gate: dict[str, Any] | None, placement: str = "ffn", family: str = "llama") -> dict[str, Any]:
    """Neutral residues of the gate, or a vanilla adapter without one."""
    config = make_config()
    config["base"]["model_type"] = family
    config["activation"] = "gelu_tanh" if family.startswith("gemma") else "silu"
    if gate is None:
        config["method"] = {"kind": "adapter", "budget": "20%", "placement": placement, "start": "he"}
    else:
        config["method"] |= {"gate": gate, "placement": placement}
    return config


def residue_by_hand(
    config: dict[str, Any], tensors: dict[str, torch.Tensor], layer: int, x: np.ndarray
) -> np.ndarray:
    """The paper's formula, of a gate of means if it has a window, in float64. x: [b, t, d]."""
    sub_layer = "self_attn" if config["method"]["placement"] == "attention" else "mlp"
    weights = {}
    for prefix in (f"layers.{layer}.{sub_layer}.adapter.", f"{sub_layer}.adapter."):
        weights |= {
            name.removeprefix(prefix): t.double().numpy()
            for name, t in tensors.items()
            if name.startswith(prefix)
        }
    z = x @ weights["w_g"].T
    if config["activation"] == "silu":
        act = z / (1 + np.exp(-z))
    else:
        act = 0.5 * z * (1 + np.tanh(np.sqrt(2 / np.pi) * (z + 0.044715 * z**3)))
    adapted = (act * (x @ weights["w_i"].T)) @ weights["w_o"].T
    activation = config["method"].get("gate", {}).get("activation", "none")
    if activation == "none":
        return adapted
    window = config["method"]["gate"].get("window", 1)
    x = np.stack([x[:, max(0, at + 1 - window) : at + 1].mean(1) for at in range(x.shape[1])], 1)
    weight = weights["gate.weight"]
    logit = (x @ weight)[..., None] if weight.ndim == 1 else x @ weight.T
    logit = logit + weights.get("gate.bias", 0.0)
    gate = {
        "relu": np.maximum(logit, 0),
        "elu": np.where(logit > 0, logit, np.exp(logit) - 1),
        "sigmoid": 1 / (1 + np.exp(-logit)),
        "hard_sigmoid": np.clip(1.2 / (1 + np.exp(-logit)) - 0.1, 0, 1),
    }[activation]
    return gate * adapted


def first(output: Any) -> np.ndarray:
    """What a sub-layer puts out: the MLP a tensor, attention a tuple of it and the weights."""
    return (output[0] if isinstance(output, tuple) else output).numpy()


def check_against_formula(
    write: WriteExtension, tokens: torch.Tensor, config: dict[str, Any], family: str
) -> None:
    """Every sub-layer's output is the base's own plus the residue of that sub-layer's input."""
    tensors = make_tensors(config)
    model = load_extension(make_base(family, torch.float64), write(config, tensors))
    name = "self_attn" if config["method"]["placement"] == "attention" else "mlp"
    seen = []

    def see(module: nn.Module, args: tuple, kwargs: dict, output: Any) -> None:
        seen.append((module, args, kwargs, output))

    for layer in model.model.layers:
        getattr(layer, name).register_forward_hook(see, with_kwargs=True)
    with torch.no_grad():
        model(tokens, use_cache=False)
    assert len(seen) == LAYERS
    for i, (module, args, kwargs, output) in enumerate(seen):
        with torch.no_grad():
            base = module.forward(*args, **kwargs)  # without hooks
        x = args[0] if args else kwargs["hidden_states"]
        expected = residue_by_hand(config, tensors, i, x.numpy())
        assert np.abs(expected).max() > 0.01
        found = first(output) - first(base)
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12 * np.abs(first(output)).max())


@pytest.mark.parametrize("placement", ["ffn", "attention"])
@pytest.mark.parametrize("gate", [None, *GATES, SHARED, WINDOW, CHANNELS], ids=str)
def test_the_residue_is_the_formula(
    write: WriteExtension, tokens: torch.Tensor, gate: dict[str, Any] | None, placement: str
) -> None:
    check_against_formula(write, tokens, config_of(gate, placement), "llama")


@pytest.mark.parametrize("placement", ["ffn", "attention"])
@pytest.mark.parametrize("family", FAMILIES)
def test_the_residue_is_the_formula_in_every_family(
    write: WriteExtension, tokens: torch.Tensor, family: str, placement: str
) -> None:
    gate = {"activation": "relu", "per": "token", "bias": 0.5}
    check_against_formula(write, tokens, config_of(gate, placement, family), family)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("placement", ["ffn", "attention"])
@pytest.mark.parametrize("family", FAMILIES)
def test_with_zero_w_o_the_model_is_the_base_bit_for_bit(
    write: WriteExtension, tokens: torch.Tensor, family: str, placement: str, dtype: torch.dtype
) -> None:
    config = config_of(GATES[1], placement, family)
    tensors = {name: t * 0 if name.endswith("w_o") else t for name, t in make_tensors(config).items()}
    model = make_base(family, dtype)
    with torch.no_grad():
        base = model(tokens).logits
        extended = load_extension(model, write(config, tensors))(tokens).logits
    assert torch.equal(base, extended)


def test_where_relu_is_closed_the_model_is_the_base_bit_for_bit(
    write: WriteExtension, tokens: torch.Tensor
) -> None:
    config = config_of({"activation": "relu", "per": "token", "bias": -1e6})
    model = make_base()
    with torch.no_grad():
        base = model(tokens).logits
        load_extension(model, write(config))
        with gates(model) as values:
            extended = model(tokens).logits
    assert torch.equal(base, extended)
    assert all(value.eq(0).all() for value in values.values())


def test_the_gate_is_fp32_even_if_the_model_is_bf16() -> None:
    # Neither 1 + 2^-10 nor 1 - 2^-10 is a bf16 number, nor is the product of the first with 1.
    x = torch.tensor([[[1.0, -1.0]]], dtype=torch.bfloat16)
    weight, bias = torch.tensor([1 + 2**-10, 1.0]), torch.tensor([2.0**-10])
    gate = BlockGate("relu", weight, bias).to(torch.bfloat16)
    assert gate(x).dtype == torch.bfloat16
    assert gate(x).item() == 2**-9


def test_rounding_the_model_before_or_after_loading_is_the_same(
    write: WriteExtension, tokens: torch.Tensor
) -> None:
    folder = write(config_of({"activation": "elu", "per": "token", "bias": 0.3}))
    before = load_extension(make_base(dtype=torch.bfloat16), folder)
    after = load_extension(make_base(), folder).to(torch.bfloat16)
    wide = load_extension(make_base(dtype=torch.bfloat16), folder, dtype=torch.float32)
    adapter = before.model.layers[0].mlp.adapter
    assert (adapter.w_o.dtype, adapter.gate.weight.dtype) == (torch.bfloat16, torch.float32)
    assert wide.model.layers[0].mlp.adapter.w_o.dtype == torch.float32
    with torch.no_grad():
        logits = [model(tokens).logits for model in (before, after, wide)]
    assert logits[0].dtype == torch.bfloat16
    assert torch.equal(logits[0], logits[1])
    assert torch.equal(logits[0], logits[2])


def test_bf16_is_near_fp32(write: WriteExtension, tokens: torch.Tensor) -> None:
    folder = write(config_of({"activation": "sigmoid", "per": "channel"}))
    with torch.no_grad():
        fp32 = load_extension(make_base(), folder)(tokens).logits
        bf16 = load_extension(make_base(dtype=torch.bfloat16), folder)(tokens).logits.float()
        base = make_base()(tokens).logits
    # bf16 has 8 bits: a few hundredths after three layers, where the extension itself makes a difference
    # many times that.
    assert (bf16 - fp32).abs().max() < 0.1 * fp32.abs().max()
    assert (base - fp32).abs().max() > 0.3 * fp32.abs().max()


@pytest.mark.parametrize("placement", ["ffn", "attention"])
@pytest.mark.parametrize("gate", [{"activation": "sigmoid", "per": "token"}, WINDOW, CHANNELS], ids=str)
def test_generation_with_a_cache_takes_the_greedy_tokens(
    write: WriteExtension, tokens: torch.Tensor, gate: dict[str, Any], placement: str
) -> None:
    model = load_extension(make_base(), write(config_of(gate, placement)))
    generated = model.generate(tokens, max_new_tokens=8, do_sample=False, eos_token_id=None, pad_token_id=0)
    expected = tokens
    for _ in range(8):
        with torch.no_grad():
            following = model(expected, use_cache=False).logits[:, -1].argmax(-1, keepdim=True)
        expected = torch.cat([expected, following], -1)
    assert torch.equal(generated, expected)
    unextended = make_base().generate(
        tokens, max_new_tokens=8, do_sample=False, eos_token_id=None, pad_token_id=0
    )
    assert not torch.equal(generated, unextended)


@pytest.mark.parametrize(
    "gate",
    [{"activation": "relu", "per": "token"}, {"activation": "relu", "per": "channel"}, SHARED],
    ids=str,
)
def test_gates_are_those_of_the_last_forward_pass(
    write: WriteExtension, tokens: torch.Tensor, gate: dict[str, Any]
) -> None:
    model = load_extension(make_base(), write(config_of(gate)))
    with torch.no_grad(), gates(model) as values:
        model(tokens[:1, :3])
        model(tokens)
    assert sorted(values) == list(range(LAYERS))
    assert all(
        value.shape == (*tokens.shape, 1 if gate["per"] == "token" else D) for value in values.values()
    )
    opened = torch.stack([(value > 0).float().mean() for value in values.values()])
    assert bool(((opened > 0.1) & (opened < 0.9)).all())
    kept = dict(values)
    model(tokens[:1])
    assert values == kept  # nothing listens any more


@pytest.mark.parametrize(
    ("gate", "of_gates"),
    [({"activation": "sigmoid", "per": "token", "bias": 0.1}, 2 * LAYERS), (SHARED, 2), (WINDOW, 2)],
    ids=str,
)
def test_every_weight_of_an_extension_trains(
    write: WriteExtension, tokens: torch.Tensor, gate: dict[str, Any], of_gates: int
) -> None:
    model = load_extension(make_base(dtype=torch.float64), write(config_of(gate)))
    model.requires_grad_(False)
    trained = [w for name, w in model.named_parameters() if ".adapter." in name]
    assert len(trained) == 3 * LAYERS + of_gates
    for weight in trained:
        weight.requires_grad_(True)
    gradients = torch.autograd.grad(model(tokens, labels=tokens).loss, trained)
    assert all(bool(gradient.ne(0).any()) for gradient in gradients)
    # Blocks that are computed again in the backward pass read the same windows.
    model.train()
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    again = torch.autograd.grad(model(tokens, labels=tokens).loss, trained)
    assert all(torch.allclose(*pair, rtol=1e-12, atol=1e-15) for pair in zip(gradients, again, strict=True))
