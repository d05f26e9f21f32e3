"""Loading, unloading, states, and what is refused."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import D, WriteExtension, make_base, make_config, make_tensors
from safetensors.torch import load_file, save_file

from neutral_transformers import ExtensionError, load_extension, unload_extension


def with_method(**changes: Any) -> dict[str, Any]:
    config = make_config()
    config["method"] |= changes
    return config


def with_base(**changes: Any) -> dict[str, Any]:
    config = make_config()
    config["base"] |= changes
    return config


SHARED = with_method(gate={"activation": "relu", "per": "token", "bias": 1.0, "shared": True, "window": 4})
every_kind = pytest.mark.parametrize("config", [make_config(), SHARED], ids=["paper", "shared, window"])


@every_kind
def test_unloading_leaves_the_pristine_base(
    write: WriteExtension, tokens: torch.Tensor, config: dict[str, Any]
) -> None:
    base, model = make_base(), make_base()
    for _ in range(2):
        load_extension(model, write(config))
        with torch.no_grad():
            assert not torch.equal(model(tokens).logits, base(tokens).logits)
        unload_extension(model)
        with torch.no_grad():
            assert torch.equal(model(tokens).logits, base(tokens).logits)
    assert list(model.state_dict()) == list(base.state_dict())
    assert [vars(module).keys() for module in model.modules()] == [vars(m).keys() for m in base.modules()]
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    unload_extension(model)  # nothing to do


@every_kind
def test_weights_are_named_as_in_the_file(write: WriteExtension, config: dict[str, Any]) -> None:
    base = make_base()
    names = set(base.state_dict())
    load_extension(base, write(config))
    added = set(base.state_dict()) - names
    assert added == {f"model.{name}" for name in make_tensors(config)}


@every_kind
def test_a_state_is_saved_and_loaded_exactly(
    write: WriteExtension, tokens: torch.Tensor, tmp_path: Path, config: dict[str, Any]
) -> None:
    model = load_extension(make_base(), write(config))
    save_file(model.state_dict(), tmp_path / "state.safetensors")
    other = load_extension(make_base(), write(config, make_tensors(config, seed=9)))
    with torch.no_grad():
        assert not torch.equal(model(tokens).logits, other(tokens).logits)
        other.load_state_dict(load_file(tmp_path / "state.safetensors"))
        assert torch.equal(model(tokens).logits, other(tokens).logits)


@every_kind
def test_a_copy_has_an_extension_of_its_own(
    write: WriteExtension, tokens: torch.Tensor, config: dict[str, Any]
) -> None:
    model = load_extension(make_base(), write(config))
    twin = copy.deepcopy(model)
    with torch.no_grad():
        extended = model(tokens).logits
        unload_extension(twin)
        assert torch.equal(model(tokens).logits, extended)
        assert torch.equal(twin(tokens).logits, make_base()(tokens).logits)
        twin = copy.deepcopy(model)
        for _, weight in twin.named_parameters():
            weight.zero_()
        assert torch.equal(model(tokens).logits, extended)
        assert not torch.equal(twin(tokens).logits, extended)


def test_a_second_extension_is_refused(write: WriteExtension) -> None:
    model = load_extension(make_base(), write())
    with pytest.raises(ExtensionError, match="unload_extension"):
        load_extension(model, write())


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (make_config(format="other"), "says format 'other', version 1"),
        (make_config(format_version=2), "says format 'neutral-extension', version 2"),
        (with_method(kind="lora"), "LoRA is exported as a PEFT adapter"),
        (with_method(kind="finetune"), "exported whole"),
        (with_method(kind="prefix"), "method.kind is 'prefix', which is none of neutral_residues, adapter"),
        (with_method(kind="block_expansion"), "a deeper model"),
        (with_method(input_norm=True), "does not know method.input_norm"),
        (with_method(gate={"activation": "relu", "window": "all"}), "method.gate.window is 'all'"),
        (
            with_method(gate={"activation": "relu", "window": 1}),
            "method.gate.window is 1, expected .* 2 or more",
        ),
        (with_method(gate={"activation": "relu", "shared": 0}), "method.gate.shared is 0"),
        (
            with_method(gate={"activation": "relu", "temperature": 2}),
            "method.gate has an entry 'temperature'",
        ),
        (with_method(scale=2), "method has an entry 'scale'"),
        (with_method(activation="relu"), "activation is 'silu', method.activation 'relu'"),
        (with_method(kind=[]), r"method.kind is \[\]"),
        (make_config(method=None), "method is None, which is no object"),
        ([], r"holds \[\], which is no object"),
        (make_config(units=10.9), "units is 10.9"),
        (make_config(units=None), "units is None"),
        (with_method(gate={"activation": "relu", "shared": True}), "no tensor mlp.adapter.gate.weight"),
        (with_method(placement="head"), "method.placement is 'head'"),
        (with_method(gate={"activation": "tanh", "per": "token"}), "method.gate.activation is 'tanh'"),
        (with_method(gate={"activation": "relu", "per": "head"}), "method.gate.per is 'head'"),
        (with_method(gate={}), "no entry 'activation'"),
        (make_config(activation="elu"), "activation is 'elu'"),
        ({key: value for key, value in make_config().items() if key != "units"}, "no entry 'units'"),
        (with_base(model_type="mistral"), "model_type 'mistral', this model's is 'llama'"),
        (with_base(model_type=None), "base.model_type is None, expected a name"),
        (with_base(d_model=32), "d_model .* 32, this model's is 24"),
        (with_base(n_layers=4), "n_layers .* 4, this model's is 3"),
        (with_base(vocab_size=84), "vocab_size 84, this model's is 83"),
        # Tensors that are those of one gate a token without a bias, but for what the config says:
        (make_config(units=11), r"w_i has shape \[10, 24\]; the config asks for \[11, 24\]"),
        (
            with_method(gate={"activation": "relu", "per": "channel"}),
            r"gate.weight has shape \[24\]; .* \[24, 24\]",
        ),
        (
            with_method(gate={"activation": "relu", "per": "token", "bias": 1.0}),
            "no tensor .*gate.bias .3 missing",
        ),
        (with_method(placement="attention"), "no tensor layers.0.self_attn.adapter"),
        (
            with_method(kind="adapter"),
            "a tensor layers.0.mlp.adapter.gate.weight that its config does not explain",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_does_not_fit_is_refused_and_the_model_left_alone(
    write: WriteExtension, config: dict[str, Any], message: str
) -> None:
    model = make_base()
    names = list(model.state_dict())
    with pytest.raises(ExtensionError, match=message):
        load_extension(model, write(config, make_tensors(make_config())))
    assert list(model.state_dict()) == names


def test_rounded_tensors_are_refused(write: WriteExtension) -> None:
    tensors = {name: tensor.bfloat16() for name, tensor in make_tensors(make_config()).items()}
    with pytest.raises(ExtensionError, match=r"is torch.bfloat16; version 1 holds torch.float32"):
        load_extension(make_base(), write(None, tensors))


def test_other_folders_are_refused(write: WriteExtension, tmp_path: Path) -> None:
    folder = write()
    (folder / "extension.safetensors").unlink()
    with pytest.raises(ExtensionError, match=r"has no extension\.safetensors"):
        load_extension(make_base(), folder)
    (folder / "extension.safetensors").write_bytes(b"\x08\0\0")
    with pytest.raises(ExtensionError, match="is no whole safetensors file"):
        load_extension(make_base(), folder)
    (folder / "extension_config.json").write_text("{")
    with pytest.raises(ExtensionError, match="is no JSON"):
        load_extension(make_base(), folder)
    (folder / "extension_config.json").write_bytes(b"\xff\xfe")
    with pytest.raises(ExtensionError, match="is no JSON"):
        load_extension(make_base(), folder)
    with pytest.raises(ExtensionError, match="it has no extension_config.json"):
        load_extension(make_base(), tmp_path / "nowhere")
    (tmp_path / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA"}))
    with pytest.raises(ExtensionError, match="is a PEFT adapter"):
        load_extension(make_base(), tmp_path)


def test_an_offloaded_model_gets_its_weights_where_it_computes(
    write: WriteExtension, tokens: torch.Tensor
) -> None:
    accelerate = pytest.importorskip("accelerate")
    expected = load_extension(make_base(), write())(tokens).logits
    model = make_base()
    accelerate.cpu_offload(model, execution_device=torch.device("cpu"))
    found = load_extension(model, write())(tokens).logits
    assert torch.allclose(found, expected, rtol=0, atol=1e-5)
    with pytest.raises(ExtensionError, match="are not loaded"):
        load_extension(make_base().to("meta"), write())


def test_a_text_model_takes_what_was_made_for_its_family(write: WriteExtension, tokens: torch.Tensor) -> None:
    # One family under two names: a checkpoint of text alone says gemma3_text.
    config = with_base(model_type="gemma3") | {"activation": "gelu_tanh"}
    model = load_extension(make_base("gemma3_text"), write(config))
    assert model(tokens).logits.shape == (*tokens.shape, 83)
    assert model.model.layers[0].mlp.adapter.w_i.shape == (10, D)
