"""The computation, and its place in a model: in parallel to a sub-layer, by a forward hook.

Shapes: b batch, t tokens, d width of the model, h units of the adapter.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.hooks import RemovableHandle
from transformers import PreTrainedModel

from .format import ExtensionConfig, ExtensionError, read_config, read_tensors
from .window import Window


def hard_sigmoid(x: Tensor) -> Tensor:
    """A sigmoid stretched to -0.1 ... 1.1 and cut; not torch's, which is made of straight lines."""
    return (torch.sigmoid(x) * 1.2 - 0.1).clamp(0.0, 1.0)


GATE_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "elu": F.elu,
    "sigmoid": torch.sigmoid,
    "hard_sigmoid": hard_sigmoid,
}


def gelu_tanh(x: Tensor) -> Tensor:
    return F.gelu(x, approximate="tanh")


ACTIVATIONS = {"silu": F.silu, "gelu_tanh": gelu_tanh, "relu": F.relu}


class BlockGate(nn.Module):
    """`g(x) = φ(w · x + β)`, one number a token, or `φ(W x + β)`, one a token and channel.

    `w · x` is summed in fp32, and β and φ are fp32; `W x` is rounded to x's dtype first. With a window the
    products are means over the last tokens.
    """

    def __init__(self, activation: str, weight: Tensor, bias: Tensor | None) -> None:
        """weight: [d] or [d, d]; bias: [1] or [d]."""
        super().__init__()
        self.activation = activation
        self.weight = nn.Parameter(weight)
        self.bias = None if bias is None else nn.Parameter(bias)

    def forward(self, x: Tensor, mean: Callable[[Tensor], Tensor] | None = None) -> Tensor:
        """[b, t, d] -> [b, t, 1] or [b, t, d], in x's dtype."""
        wide = torch.promote_types(x.dtype, torch.float32)
        weight = self.weight.to(x.device)  # shared by layers, of which some may be elsewhere
        if weight.dim() == 1:
            # No F.linear, which autocast would round.
            logit = (x.to(wide) * weight).sum(-1, keepdim=True)
        else:
            logit = F.linear(x, weight.to(x.dtype)).to(wide)
        if mean is not None:
            logit = mean(logit)
        if self.bias is not None:
            logit = logit + self.bias.to(x.device)
        return GATE_ACTIVATIONS[self.activation](logit).to(x.dtype)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> BlockGate:
        """Vectors stay fp32 under `model.to(dtype)`: a rounded one would be another gate."""

        def keep(tensor: Tensor) -> Tensor:
            out = fn(tensor)
            return tensor.to(out.device) if tensor.dim() == 1 and out.dtype != tensor.dtype else out

        return super()._apply(keep, recurse)


class SharedGate(nn.Module):
    """The place of a gate that all layers share, in the decoder: `mlp.adapter.gate.weight` there, as in the file."""

    def __init__(self, gate: BlockGate) -> None:
        super().__init__()
        self.adapter = nn.ModuleDict({"gate": gate})


class Residue(nn.Module):
    """`g(x) · W_o(σ(W_g x) ⊙ W_i x)`, in x's dtype; without a gate, g = 1."""

    def __init__(self, activation: str, w_i: Tensor, w_g: Tensor, w_o: Tensor) -> None:
        """w_i, w_g: [h, d]; w_o: [d, h]."""
        super().__init__()
        self.activation = activation
        self.w_i, self.w_g, self.w_o = nn.Parameter(w_i), nn.Parameter(w_g), nn.Parameter(w_o)
        self.gate: BlockGate | None = None
        # In a tuple, where torch does not see it: its parameters are the decoder's, once.
        self.shared_gate: tuple[BlockGate, ...] = ()
        self.mean: Callable[[Tensor], Tensor] | None = None
        self.on_gate: Callable[[Tensor], None] | None = None
        self.hook: RemovableHandle | None = None

    def forward(self, x: Tensor) -> Tensor:
        """[b, t, d] -> [b, t, d]."""
        act = ACTIVATIONS[self.activation]
        w_i, w_g, w_o = (weight.to(x.dtype) for weight in (self.w_i, self.w_g, self.w_o))
        adapted = F.linear(act(F.linear(x, w_g)) * F.linear(x, w_i), w_o)
        gate = self.shared_gate[0] if self.shared_gate else self.gate
        if gate is None:
            return adapted
        value = gate(x, self.mean)
        if self.on_gate is not None:
            self.on_gate(value)
        return value * adapted


def add_residue(sub_layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
    """The hook. It finds the residue in the sub-layer it is called for, so that copies of a model use theirs."""
    x = args[0] if args else kwargs["hidden_states"]
    if isinstance(output, tuple):  # attention: (output, weights)
        return (output[0] + sub_layer.adapter(x), *output[1:])
    return output + sub_layer.adapter(x)


def sub_layers(
    model: PreTrainedModel, names: tuple[str, ...] = ("mlp", "self_attn")
) -> Iterator[tuple[int, nn.Module]]:
    for i, layer in enumerate(model.get_decoder().layers):
        for name in names:
            if hasattr(layer, name):
                yield i, getattr(layer, name)


def residues(model: PreTrainedModel) -> dict[int, tuple[nn.Module, Residue]]:
    """Each layer's sub-layer and the residue beside it."""
    found = ((i, sub_layer, getattr(sub_layer, "adapter", None)) for i, sub_layer in sub_layers(model))
    return {i: (sub_layer, adapter) for i, sub_layer, adapter in found if isinstance(adapter, Residue)}


def check_base(model: PreTrainedModel, config: ExtensionConfig) -> None:
    text = model.config.get_text_config()
    # Llama 2 and Mistral 7B are of one size, so sizes alone do not tell bases apart.
    for entry, made_for, found in (
        ("model_type", config.model_type.removesuffix("_text"), text.model_type.removesuffix("_text")),
        ("d_model (hidden_size)", config.d_model, text.hidden_size),
        ("n_layers (num_hidden_layers)", config.n_layers, text.num_hidden_layers),
        ("vocab_size", config.vocab_size, text.vocab_size),
    ):
        if made_for != found:
            raise ExtensionError(
                f"the extension was made for another base: {entry} {made_for!r}, this model's is {found!r}"
            )


def load_extension(
    model: PreTrainedModel, folder: str | Path, *, dtype: torch.dtype | None = None
) -> PreTrainedModel:
    """Adds the extension in `folder` to `model`, in place, and returns it.

    Weights become parameters `….layers.{i}.mlp.adapter.*`, as they are named in the file, on the device of
    their layer. Matrices are held in `dtype`, by default the model's; `torch.float32` suits training.
    They are rounded to the hidden states' dtype where they are used in any case.
    """
    folder = Path(folder)
    config = read_config(folder)
    check_base(model, config)
    if residues(model):
        raise ExtensionError("the model has an extension already: unload_extension(model) first")
    dtype = dtype or model.dtype
    # Matrices in `dtype`, the vectors of gates in fp32.
    tensors = {
        name: tensor.to(dtype) if tensor.dim() == 2 else tensor
        for name, tensor in read_tensors(folder, config).items()
    }
    devices = {i: device_of(sub_layer) for i, sub_layer in sub_layers(model, (config.sub_layer,))}
    decoder, window = model.get_decoder(), None
    if config.gate and config.gate.window:
        window = Window(config.gate.window)
        window.attach(decoder)
    shared_gate = SharedGate(build_gate(config, tensors, 0)) if config.gate and config.gate.shared else None
    if shared_gate is not None:
        decoder.add_module(config.sub_layer, shared_gate.to(devices[0]))
    for i, sub_layer in sub_layers(model, (config.sub_layer,)):
        weights = (tensors[config.prefix(i) + name] for name in ("w_i", "w_g", "w_o"))
        residue = Residue(config.activation, *weights).train(model.training)
        if shared_gate is not None:
            residue.shared_gate = (shared_gate.adapter["gate"],)
        elif config.gate:
            residue.gate = build_gate(config, tensors, i)
        residue.mean = None if window is None else partial(window.mean, i)
        sub_layer.adapter = residue.to(devices[i])
        residue.hook = sub_layer.register_forward_hook(add_residue, with_kwargs=True)
    return model


def device_of(sub_layer: nn.Module) -> torch.device:
    """Where a sub-layer computes; that is not where its weights are, if accelerate has put these elsewhere."""
    # Quantised layers keep theirs in buffers.
    weight = next(chain(sub_layer.parameters(), sub_layer.buffers()), None)
    if weight is None:
        raise ExtensionError(f"a sub-layer of the model ({type(sub_layer).__name__}) has no weights")
    device = weight.device
    if device.type != "meta":
        return device
    hooks = (getattr(module, "_hf_hook", None) for module in sub_layer.modules())
    found = (getattr(hook, "execution_device", None) for hook in hooks)
    device = next((device for device in found if device is not None), None)
    if device is None:
        raise ExtensionError("the model's weights are not loaded (device meta): load them first")
    return torch.device(device)


def build_gate(config: ExtensionConfig, tensors: dict[str, Tensor], layer: int) -> BlockGate:
    prefix = config.gate_prefix(layer)
    return BlockGate(config.gate.activation, tensors[prefix + "weight"], tensors.get(prefix + "bias"))


def unload_extension(model: PreTrainedModel) -> PreTrainedModel:
    """Takes the extension out again: the model is the base that it was."""
    for sub_layer, residue in residues(model).values():
        residue.hook.remove()
        del sub_layer.adapter
    decoder = model.get_decoder()
    for name, child in list(decoder.named_children()):
        if isinstance(child, SharedGate):
            delattr(decoder, name)
    Window.detach(decoder)
    return model


@contextmanager
def gates(model: PreTrainedModel) -> Iterator[dict[int, Tensor]]:
    """The values of every layer's gate in the last forward pass, without gradients.

        with gates(model) as values:
            model(**inputs)
        open_share = (values[3] > 0).float().mean()

    `values[layer]` is [b, t, 1], or [b, t, d] for a gate a channel; empty if the extension has no gates.
    """
    values: dict[int, Tensor] = {}

    def remember(layer: int, value: Tensor) -> None:
        values[layer] = value.detach()

    found = {i: residue for i, (_, residue) in residues(model).items()}
    for i, residue in found.items():
        residue.on_gate = partial(remember, i)
    try:
        yield values
    finally:
        for residue in found.values():
            residue.on_gate = None
