"""The folder that `neutral export --format neutral` writes, version 1, read and checked.

`extension_config.json` says what was trained on which base, `extension.safetensors` holds its weights
in fp32. With h units beside a sub-layer of width d, each layer i has, under `layers.{i}.mlp.adapter.`
(`self_attn` if placed there): `w_i` [h, d], `w_g` [h, d], `w_o` [d, h], and if there is a gate
`gate.weight` ([d] for one gate a token, [d, d] for one a channel) and maybe `gate.bias` ([1] or [d]).
A gate that all layers share is there once, as `mlp.adapter.gate.weight` and `mlp.adapter.gate.bias`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

FORMAT, VERSION = "neutral-extension", 1
SUB_LAYERS = {"ffn": "mlp", "attention": "self_attn"}
ACTIVATIONS = ("silu", "gelu_tanh", "relu")
GATE_ACTIVATIONS = ("relu", "elu", "sigmoid", "hard_sigmoid", "none")
ELSEWHERE = {
    "lora": "LoRA is exported as a PEFT adapter: load it with peft.PeftModel.from_pretrained",
    "dora": "DoRA is exported as a PEFT adapter: load it with peft.PeftModel.from_pretrained",
    "block_expansion": "new blocks are exported as a deeper model, with --format hf",
    "finetune": "a fine-tuned model is exported whole: load it with AutoModelForCausalLM.from_pretrained",
}


# An entry that is not known would be a computation that is left out.
KNOWN = {
    "": {"format", "format_version", "method", "units", "activation", "base", "made_by", "fingerprint"},
    "method": {"kind", "budget", "gate", "local_loss", "placement", "start", "activation", "input_norm"},
    "method.gate": {"activation", "per", "bias", "shared", "window"},
    "base": {"model_type", "d_model", "n_layers", "vocab_size", "name", "digest"},
}


class ExtensionError(ValueError):
    """A folder that is no extension of this version, or an extension that does not fit the model."""


@dataclass(frozen=True)
class Gate:
    """What multiplies the adapter's output: `relu`, `elu`, `sigmoid` or `hard_sigmoid` of one logit a token or channel.

    One for all layers if it is shared; of the mean over the last `window` tokens if there is one.
    """

    activation: str
    per_channel: bool
    has_bias: bool
    shared: bool
    window: int | None


@dataclass(frozen=True)
class ExtensionConfig:
    """What of `extension_config.json` determines the computation and the base that it fits."""

    sub_layer: str
    units: int
    activation: str
    gate: Gate | None
    model_type: str
    d_model: int
    n_layers: int
    vocab_size: int

    def prefix(self, layer: int) -> str:
        return f"layers.{layer}.{self.sub_layer}.adapter."

    def gate_prefix(self, layer: int) -> str:
        shared = self.gate is not None and self.gate.shared
        return f"{self.sub_layer}.adapter.gate." if shared else f"{self.prefix(layer)}gate."

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of every tensor of the extension."""
        h, d = self.units, self.d_model
        all_shapes: dict[str, tuple[int, ...]] = {}
        for i in range(self.n_layers):
            matrices = {"w_i": (h, d), "w_g": (h, d), "w_o": (d, h)}
            all_shapes |= {self.prefix(i) + name: shape for name, shape in matrices.items()}
            if self.gate:
                all_shapes[self.gate_prefix(i) + "weight"] = (d, d) if self.gate.per_channel else (d,)
                if self.gate.has_bias:
                    all_shapes[self.gate_prefix(i) + "bias"] = (d,) if self.gate.per_channel else (1,)
        return all_shapes


def entries_of(entry: str, found: Any) -> dict[str, Any]:
    """An object of known entries."""
    name = entry or "the file"
    if not isinstance(found, dict):
        raise ExtensionError(f"extension_config.json: {name} is {found!r}, which is no object")
    if unknown := sorted(found.keys() - KNOWN[entry]):
        raise ExtensionError(f"extension_config.json: {name} has an entry {unknown[0]!r}, which is not known")
    return found


def a_size(entry: str, found: Any, least: int = 1) -> int:
    # bool is an int to Python.
    if type(found) is not int or found < least:
        raise ExtensionError(
            f"extension_config.json: {entry} is {found!r}, expected a number of {least} or more"
        )
    return found


def one_of(entry: str, found: Any, known: tuple[Any, ...]) -> Any:
    # 0 is False to Python.
    if not any(found == one and type(found) is type(one) for one in known):
        raise ExtensionError(
            f"extension_config.json: {entry} is {found!r}, which is none of {', '.join(map(str, known))}"
        )
    return found


def parse_gate(method: dict[str, Any]) -> Gate | None:
    if method["kind"] == "adapter":
        return None
    gate = entries_of("method.gate", method["gate"])
    activation = one_of("method.gate.activation", gate["activation"], GATE_ACTIVATIONS)
    per = one_of("method.gate.per", gate.get("per", "token"), ("token", "channel"))
    if activation == "none":
        return None
    window, shared = gate.get("window"), gate.get("shared", False)
    if window is not None:
        a_size("method.gate.window", window, least=2)
    one_of("method.gate.shared", shared, (True, False))
    return Gate(activation, per == "channel", gate.get("bias") is not None, shared, window)


def parse_config(entries: Any) -> ExtensionConfig:
    if not isinstance(entries, dict):
        raise ExtensionError(f"extension_config.json holds {entries!r}, which is no object")
    found = entries.get("format"), entries.get("format_version")
    if found != (FORMAT, VERSION):
        raise ExtensionError(
            f"this package reads format {FORMAT!r}, version {VERSION}; "
            f"extension_config.json says format {found[0]!r}, version {found[1]!r}"
        )
    try:
        kind = entries["method"]["kind"] if isinstance(entries["method"], dict) else None
        if kind in tuple(ELSEWHERE):
            raise ExtensionError(ELSEWHERE[kind])
        entries = entries_of("", entries)
        method, base = entries_of("method", entries["method"]), entries_of("base", entries["base"])
        one_of("method.kind", kind, ("neutral_residues", "adapter"))
        if not isinstance(base["model_type"], str):
            found = base["model_type"]
            raise ExtensionError(f"extension_config.json: base.model_type is {found!r}, expected a name")
        if method.get("input_norm"):
            raise ExtensionError("extension_config.json: this package does not know method.input_norm")
        placement = one_of("method.placement", method.get("placement", "ffn"), tuple(SUB_LAYERS))
        activation = one_of("activation", entries["activation"], ACTIVATIONS)
        if method.get("activation") not in (None, activation):
            own = method["activation"]
            raise ExtensionError(
                f"extension_config.json: activation is {activation!r}, method.activation {own!r}"
            )
        return ExtensionConfig(
            sub_layer=SUB_LAYERS[placement],
            units=a_size("units", entries["units"]),
            activation=activation,
            gate=parse_gate(method),
            model_type=base["model_type"],
            d_model=a_size("base.d_model", base["d_model"]),
            n_layers=a_size("base.n_layers", base["n_layers"]),
            vocab_size=a_size("base.vocab_size", base["vocab_size"]),
        )
    except KeyError as missing:
        raise ExtensionError(f"extension_config.json has no entry {missing}") from None


def read_config(folder: Path) -> ExtensionConfig:
    path = folder / "extension_config.json"
    if (folder / "adapter_config.json").exists() and not path.exists():
        raise ExtensionError(f"{folder} is a PEFT adapter: load it with peft.PeftModel.from_pretrained")
    try:
        return parse_config(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise ExtensionError(f"{folder} is no extension: it has no extension_config.json") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ExtensionError(f"{path} is no JSON: {error}") from None


def read_tensors(folder: Path, config: ExtensionConfig) -> dict[str, torch.Tensor]:
    """Exactly the tensors that the config asks for, in fp32."""
    path = folder / "extension.safetensors"
    if not path.exists():
        raise ExtensionError(f"{folder} has no extension.safetensors")
    try:
        tensors = load_file(path)
    except SafetensorError as error:
        raise ExtensionError(f"{path} is no whole safetensors file: {error}") from None
    shapes = config.shapes()
    if missing := sorted(shapes.keys() - tensors.keys()):
        raise ExtensionError(f"{path.name} has no tensor {missing[0]} ({len(missing)} missing)")
    if extra := sorted(tensors.keys() - shapes.keys()):
        raise ExtensionError(
            f"{path.name} has a tensor {extra[0]} that its config does not explain ({len(extra)} such)"
        )
    for name, shape in shapes.items():
        tensor = tensors[name]
        if tuple(tensor.shape) != shape:
            raise ExtensionError(f"{name} has shape {list(tensor.shape)}; the config asks for {list(shape)}")
        if tensor.dtype != torch.float32:
            raise ExtensionError(f"{name} is {tensor.dtype}; version {VERSION} holds torch.float32")
    return tensors
