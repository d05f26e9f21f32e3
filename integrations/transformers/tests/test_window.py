"""Gates that read the tokens before their own: what those are, whichever way the model is called."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from conftest import FAMILIES, VOCAB, WriteExtension, make_base, make_config
from transformers import DynamicCache, PreTrainedModel, StaticCache

from neutral_transformers import ExtensionError, gates, load_extension

GATES = [
    {"activation": "hard_sigmoid", "per": "token", "bias": 0.2, "shared": True, "window": 4},
    {"activation": "sigmoid", "per": "channel", "window": 64},
]
of_both = pytest.mark.parametrize("gate", GATES, ids=["4 tokens", "64 tokens, a channel"])


def extended(write: WriteExtension, gate: dict[str, Any], family: str = "llama") -> PreTrainedModel:
    config = make_config()
    config["method"]["gate"] = gate
    config["base"]["model_type"] = family
    config["activation"] = "gelu_tanh" if family.startswith("gemma") else "silu"
    return load_extension(make_base(family), write(config))


@torch.no_grad()
def gates_of(model: PreTrainedModel, *args: Any, **kwargs: Any) -> torch.Tensor:
    """[layers, b, t, c]"""
    with gates(model) as values:
        model(*args, **kwargs)
    return torch.stack([values[layer] for layer in sorted(values)])


def same(a: torch.Tensor, b: torch.Tensor) -> bool:
    return a.shape == b.shape and torch.allclose(a, b, rtol=0, atol=1e-4)


@of_both
@pytest.mark.parametrize("family", FAMILIES)
def test_read_in_pieces_the_gates_are_those_of_the_whole(
    write: WriteExtension, tokens: torch.Tensor, gate: dict[str, Any], family: str
) -> None:
    model = extended(write, gate, family)
    whole = gates_of(model, tokens)
    cache = DynamicCache(config=model.config)
    pieces = [gates_of(model, piece, past_key_values=cache) for piece in tokens.split([3, 1, 1, 6], 1)]
    assert same(torch.cat(pieces, 2), whole)
    # Without what lies before, they would be others.
    assert not same(gates_of(model, tokens[:, 5:]), whole[:, :, 5:])


@of_both
def test_a_cropped_cache_is_continued_from_where_it_was_cut(
    write: WriteExtension, tokens: torch.Tensor, gate: dict[str, Any]
) -> None:
    model = extended(write, gate)
    cache = DynamicCache(config=model.config)
    gates_of(model, torch.cat([tokens[:, :7], tokens[:, :2]], 1), past_key_values=cache)
    cache.crop(-2)
    after = gates_of(model, tokens[:, 7:], past_key_values=cache)
    assert same(after, gates_of(model, tokens)[:, :, 7:])


@of_both
@pytest.mark.parametrize("options", [{"num_beams": 3}, {"num_beams": 3, "num_return_sequences": 2}], ids=str)
def test_beams_carry_their_own_tokens(
    write: WriteExtension, tokens: torch.Tensor, gate: dict[str, Any], options: dict[str, Any]
) -> None:
    model = extended(write, gate)
    options |= {"max_new_tokens": 6, "do_sample": False, "eos_token_id": None, "pad_token_id": 0}
    assert torch.equal(model.generate(tokens, **options), model.generate(tokens, use_cache=False, **options))


@of_both
def test_guessed_tokens_that_are_taken_back_leave_no_trace(
    write: WriteExtension, gate: dict[str, Any]
) -> None:
    model = extended(write, gate)
    prompt = torch.tensor([[5, 6, 7, 8, 5, 6, 7, 8, 5, 6]])  # which the lookup guesses to go on, wrongly
    options = {"max_new_tokens": 8, "do_sample": False, "eos_token_id": VOCAB - 1, "pad_token_id": 0}
    plain = model.generate(prompt, **options)
    assert plain.shape == (1, 18)
    assert torch.equal(model.generate(prompt, prompt_lookup_num_tokens=3, **options), plain)


@of_both
def test_padding_is_no_token(write: WriteExtension, tokens: torch.Tensor, gate: dict[str, Any]) -> None:
    model = extended(write, gate)
    alone = gates_of(model, tokens[:1, :6])
    for side in (0, 1):
        padding = torch.full((1, 5), VOCAB - 1)
        row = [padding, tokens[:1, :6]] if side == 0 else [tokens[:1, :6], padding]
        mask = torch.cat([(part is not padding) * torch.ones_like(part) for part in row], 1)
        padded = torch.cat([torch.cat(row, 1), tokens[1:]])
        mask = torch.cat([mask, torch.ones_like(tokens[1:])])
        found = gates_of(model, padded, attention_mask=mask, position_ids=(mask.cumsum(1) - 1).clamp(min=0))
        assert same(found[:, :1, mask[0].bool()], alone)
        assert same(found[:, 1:], gates_of(model, tokens[1:]))


@of_both
def test_a_window_is_of_tokens_that_are_seen(
    write: WriteExtension, tokens: torch.Tensor, gate: dict[str, Any]
) -> None:
    model = extended(write, gate)
    alone = gates_of(model, tokens[:1])
    row = torch.cat([tokens[:1, :5], torch.full((1, 4), VOCAB - 1), tokens[:1, 5:]], 1)
    mask = torch.ones_like(row)
    mask[:, 5:9] = 0
    position_ids = (mask.cumsum(1) - 1).clamp(min=0)
    seen = mask[0].bool()
    found = gates_of(model, row, attention_mask=mask, position_ids=position_ids)
    assert same(found[:, :, seen], alone)
    # A padded context in the cache, and a question after it.
    cache = DynamicCache(config=model.config)
    for part in (slice(0, 9), slice(9, None)):
        found = gates_of(
            model,
            row[:, part],
            attention_mask=mask[:, : part.stop],
            position_ids=position_ids[:, part],
            past_key_values=cache,
        )
    assert same(found, alone[:, :, 5:])


@of_both
def test_left_padded_prompts_are_continued_as_they_are_alone(
    write: WriteExtension, tokens: torch.Tensor, gate: dict[str, Any]
) -> None:
    model = extended(write, gate)
    options = {"max_new_tokens": 6, "do_sample": False, "eos_token_id": None, "pad_token_id": 0}
    prompts = tokens.clone()
    prompts[0, :5] = 0
    mask = prompts.ne(0).long()
    found = model.generate(prompts, attention_mask=mask, **options)
    assert torch.equal(found[:1, 5:], model.generate(tokens[:1, 5:], **options))
    assert torch.equal(found[1:], model.generate(tokens[1:], **options))


@of_both
def test_packed_documents_do_not_read_each_other(
    write: WriteExtension, tokens: torch.Tensor, gate: dict[str, Any]
) -> None:
    model = extended(write, gate)
    parts = [tokens[:1, :5], tokens[1:, :6]]
    position_ids = torch.tensor([[*range(5), *range(6)]])
    packed = gates_of(model, torch.cat(parts, 1), position_ids=position_ids, use_cache=False)
    assert same(packed, torch.cat([gates_of(model, part) for part in parts], 2))


def test_what_lies_before_must_be_known(write: WriteExtension, tokens: torch.Tensor) -> None:
    cache = DynamicCache()
    with torch.no_grad():
        make_base()(tokens, past_key_values=cache)
    model = extended(write, GATES[0])
    with pytest.raises(ExtensionError, match="holds 11 tokens that this extension's gates have not read"):
        gates_of(model, tokens, past_key_values=cache)
    with pytest.raises(ExtensionError, match="needs a dynamic cache"):
        gates_of(model, tokens, past_key_values=StaticCache(config=model.config, max_cache_len=16))
    with pytest.raises(ExtensionError, match="this one has 4 dimensions"):
        gates_of(model, tokens, attention_mask=torch.ones(2, 1, 11, 11, dtype=torch.bool))
    with pytest.raises(ExtensionError, match="this one is a dict"):
        gates_of(model.model, tokens, attention_mask={"full_attention": None})
    with pytest.raises(ExtensionError, match="cannot read a paged cache"):
        gates_of(model, tokens, cache=object())
    offloaded = DynamicCache(config=model.config)
    offloaded.offloading = True
    with pytest.raises(ExtensionError, match="this one is offloaded"):
        gates_of(model, tokens, past_key_values=offloaded)
