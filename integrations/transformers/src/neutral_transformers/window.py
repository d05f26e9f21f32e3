"""What a gate with a window reads besides a token itself: means over the tokens before it.

Shapes: b batch, t tokens of a forward pass, T those and the ones before them, c gates of a layer (1 or d).
"""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.hooks import RemovableHandle
from transformers.cache_utils import Cache, DynamicLayer

from .format import ExtensionError


class Memory(DynamicLayer):
    """The gates' products of every token in a cache: `keys` [b, 1, T, layers · c]; `values` are empty.

    A layer of the cache after the model's own, so that beams, repeats and crops move it with them.
    """


class Window:
    """Means over the last `size` tokens that attention may see, through one forward pass after another."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.hooks: tuple[RemovableHandle, ...] = ()
        self.begin(None, None, None)

    def attach(self, decoder: nn.Module) -> None:
        decoder.gate_window = self
        self.hooks = (
            decoder.register_forward_pre_hook(begin_pass, with_kwargs=True),
            decoder.register_forward_hook(end_pass, with_kwargs=True),
        )

    @staticmethod
    def detach(decoder: nn.Module) -> None:
        """Takes the decoder's window out, if it has one."""
        if hasattr(decoder, "gate_window"):
            for hook in decoder.gate_window.hooks:
                hook.remove()
            del decoder.gate_window

    def begin(self, cache: Cache | None, mask: Tensor | None, position_ids: Tensor | None) -> None:
        """mask: [b, T], 0 at tokens that are none; position_ids: [b, t], those of packed documents start anew."""
        layers = [] if cache is None else cache.layers
        if any(layer.is_compileable for layer in layers):
            raise ExtensionError("a gate with a window needs a dynamic cache; this one is of fixed size")
        if getattr(cache, "offloading", False):
            # It fetches the layer after the one in use, and the last would fetch ours for the first.
            raise ExtensionError(
                "a gate with a window needs a cache that stays where it is; this one is offloaded"
            )
        self.memory = next((layer for layer in layers if isinstance(layer, Memory)), None)
        self.past = 0 if cache is None else cache.get_seq_length()
        if self.past != (0 if self.memory is None else self.memory.get_seq_length()):
            raise ExtensionError(
                f"the cache holds {self.past} tokens that this extension's gates have not read: "
                "fill it with the extended model"
            )
        if mask is not None and (not isinstance(mask, Tensor) or mask.dim() != 2):
            found = (
                f"has {mask.dim()} dimensions" if isinstance(mask, Tensor) else f"is a {type(mask).__name__}"
            )
            raise ExtensionError(
                f"a gate with a window needs an attention_mask [batch, tokens]; this one {found}"
            )
        self.mask = mask
        # Positions tell documents apart where there is neither mask nor past, as for transformers' attention, where
        # there is no cache either.
        self.position_ids = position_ids if mask is None and self.past == 0 else None
        self.products: dict[int, Tensor] = {}

    def mean(self, layer: int, product: Tensor) -> Tensor:
        """The mean at each token, of a layer's products w · x. [b, t, c] -> [b, t, c]."""
        b, t, c = product.shape
        self.products[layer] = product.detach()
        # No token reads further back than this; of tokens among which some are hidden that is not known beforehand.
        whole = self.mask is None or bool(self.mask.all())
        start = max(0, self.past - self.size + 1) if whole else 0
        read = self.past - start
        if self.memory is not None and self.memory.is_initialized:
            before = self.memory.keys[:, 0, start:, layer * c : (layer + 1) * c]
            product = torch.cat([before.to(product.device), product], 1)
        seen = torch.ones(b, read + t, dtype=torch.bool, device=product.device)
        if self.mask is not None:
            seen &= self.mask[:, start : self.past + t].to(product.device).bool()
        firsts = self.firsts(seen, whole)[:, read:, None]
        # In fp64, so that the mean at a token does not depend on how much was read in one pass; MPS has none.
        wide = torch.float32 if product.device.type == "mps" else torch.float64
        sums = sums_before(torch.where(seen[..., None], product, 0).to(wide))
        counts = sums_before(seen[..., None].to(wide))
        total, count = (
            s[:, read + 1 :] - s.gather(1, firsts.expand(-1, -1, s.shape[2])) for s in (sums, counts)
        )
        # No token before padding on the left, whose own gates nobody reads.
        return (total / count.clamp(min=1)).to(product.dtype)

    def firsts(self, seen: Tensor, whole: bool) -> Tensor:
        """The first token that each reads: of its window, or of its document. [b, T] -> [b, T]."""
        at = torch.arange(seen.shape[1], device=seen.device).expand_as(seen)
        if whole:
            firsts = (at + 1 - self.size).clamp(min=0)
        else:
            # A window is so many tokens that are seen, however many hidden ones lie between.
            count = seen.cumsum(1)
            firsts = torch.searchsorted(count, (count - self.size + 1).clamp(min=0))
        if self.position_ids is not None:
            positions = self.position_ids.to(seen.device)
            anew = F.pad(positions.diff(dim=1) != 1, (1, 0))
            firsts = torch.maximum(firsts, torch.where(anew, at, 0).cummax(1).values)
        return firsts

    def end(self, cache: Cache | None) -> None:
        """Leaves this pass's products in the cache, for the next."""
        if cache is not None and self.products:
            if self.memory is None:
                self.memory = Memory()
                cache.layers.append(self.memory)
            in_order = [self.products[layer] for layer in sorted(self.products)]
            keys = torch.cat([product.to(in_order[0].device) for product in in_order], 2)[:, None]
            self.memory.update(keys, keys[..., :0])
        self.memory, self.products = None, {}


def sums_before(values: Tensor) -> Tensor:
    """[b, T, c] -> [b, T + 1, c]: the sum of all before each token, and of all."""
    return F.pad(values.cumsum(1), (0, 0, 1, 0))


def begin_pass(decoder: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """The hook before the decoder's forward pass. It finds the decoder's own window, so that copies use theirs."""
    given = dict(zip(inspect.signature(decoder.forward).parameters, args, strict=False)) | kwargs
    # From transformers 5.24 on all caches have the name that paged ones, which are no `Cache`, have before.
    cache = given.get("cache")
    if cache is None:
        cache = given.get("past_key_values")
    elif not isinstance(cache, Cache):
        raise ExtensionError("a gate with a window cannot read a paged cache (generate_batch)")
    decoder.gate_window.begin(cache, given.get("attention_mask"), given.get("position_ids"))


def end_pass(decoder: nn.Module, _args: tuple[Any, ...], _kwargs: dict[str, Any], output: Any) -> None:
    """The hook after it. The cache is in the output, whoever has made it."""
    parts = output if isinstance(output, tuple) else output.values()
    decoder.gate_window.end(next((part for part in parts if isinstance(part, Cache)), None))
