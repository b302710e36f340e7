"""Weights to disk and back, to and from transformers, and files that are not what they should be."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import Llama4ForCausalLM, Llama4ForConditionalGeneration
from transformers.utils import logging

from camelid.checkpoint import is_model_dir, load_config, load_model, save_model
from camelid.core.errors import CheckpointError
from camelid.model import Llama4
from camelid.testing.tiny import NUM_SPECIAL_TOKENS, TinyKind, tiny_input, tiny_model

WEIGHTS = "model.safetensors"
NORM = "language_model.model.norm.weight"

logging.disable_progress_bar()


def assert_same_tensors(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> None:
    """Same names, same dtypes, same bits."""
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        assert tensor.dtype == theirs[name].dtype, name
        assert torch.equal(tensor, theirs[name]), name


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """A seeing model on disk, in fp32."""
    save_model(tiny_model(vision=True), tmp_path, torch.float32, NUM_SPECIAL_TOKENS)
    return tmp_path


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("vision", [True, False], ids=["seeing", "text only"])
def test_bits_survive_transformers(kind: TinyKind, vision: bool, dtype: torch.dtype, tmp_path: Path) -> None:
    """We save, it loads; it saves, we load."""
    ours = tiny_model(kind, vision=vision).to(dtype)
    family = Llama4ForConditionalGeneration if vision else Llama4ForCausalLM
    prefix = "" if vision else "language_model."
    named = {name.removeprefix(prefix): tensor for name, tensor in ours.state_dict().items()}

    save_model(ours, tmp_path / "ours", dtype, NUM_SPECIAL_TOKENS)
    theirs, report = family.from_pretrained(tmp_path / "ours", dtype=dtype, output_loading_info=True)
    assert not any(report.values()), report
    assert_same_tensors(named, dict(theirs.state_dict()))

    theirs.save_pretrained(tmp_path / "theirs")
    back = load_model(tmp_path / "theirs", dtype)
    assert_same_tensors(dict(ours.state_dict()), dict(back.state_dict()))


def test_shards_of_transformers_are_read(tmp_path: Path) -> None:
    ours = tiny_model("maverick", vision=True)
    save_model(ours, tmp_path / "ours", torch.float32, NUM_SPECIAL_TOKENS)
    theirs = Llama4ForConditionalGeneration.from_pretrained(tmp_path / "ours", dtype=torch.float32)
    theirs.save_pretrained(tmp_path / "theirs", max_shard_size="100KB")
    assert len(list((tmp_path / "theirs").glob("*.safetensors"))) > 3
    assert is_model_dir(tmp_path / "theirs")
    assert_same_tensors(dict(ours.state_dict()), dict(load_model(tmp_path / "theirs").state_dict()))
    next((tmp_path / "theirs").glob("*-00002-of-*.safetensors")).unlink()
    with pytest.raises(CheckpointError, match="-00002-of-"):
        load_model(tmp_path / "theirs")


@torch.no_grad()
def test_a_loaded_model_says_the_same(saved: Path) -> None:
    ours, loaded = tiny_model(vision=True), load_model(saved)
    item = tiny_input(ours.config, 40, (3,))
    arguments = (item.token_ids, None, item.tiles, item.patch_positions)
    assert not loaded.training
    assert loaded.config == ours.config
    assert torch.equal(loaded(*arguments).hidden, ours(*arguments).hidden)


def test_bf16_is_the_default_on_disk_and_fp32_in_memory(tmp_path: Path) -> None:
    save_model(tiny_model(), tmp_path, num_special_tokens=NUM_SPECIAL_TOKENS)
    assert {tensor.dtype for tensor in load_file(tmp_path / WEIGHTS).values()} == {torch.bfloat16}
    assert {parameter.dtype for parameter in load_model(tmp_path).parameters()} == {torch.float32}
    assert {parameter.dtype for parameter in load_model(tmp_path, torch.bfloat16).parameters()} == {
        torch.bfloat16
    }


def test_saving_again_writes_the_same_bytes(saved: Path, tmp_path: Path) -> None:
    again = tmp_path / "again"
    save_model(load_model(saved), again, torch.float32, NUM_SPECIAL_TOKENS)
    for path in again.iterdir():
        assert path.read_bytes() == (saved / path.name).read_bytes(), path.name


def test_a_routing_bias_has_no_place_on_disk(tmp_path: Path) -> None:
    model = tiny_model()
    router = model.language_model.model.layers[2].feed_forward.router
    router.selection_bias[1] = 0.25
    with pytest.raises(CheckpointError, match=r"layers\.2\..*selection_bias is not zero \(max 0\.25\)"):
        save_model(model, tmp_path)
    assert not is_model_dir(tmp_path)


def test_a_loaded_model_has_no_routing_bias(saved: Path) -> None:
    """Buffers are not in the file and must not be what memory happened to hold."""
    biases = [buffer for name, buffer in load_model(saved).named_buffers() if "selection_bias" in name]
    assert len(biases) == 6 and not torch.cat(biases).any()


def rewrite(directory: Path, **changes: Tensor | None) -> None:
    """Replaces, adds or (None) removes tensors; `NORM` stands for the final norm."""
    tensors = load_file(directory / WEIGHTS)
    for name, tensor in changes.items():
        name = NORM if name == "norm" else name
        tensors.pop(name, None)
        if tensor is not None:
            tensors[name] = tensor
    save_file(tensors, directory / WEIGHTS)
    (directory / "SHA256SUMS").unlink()


@pytest.mark.parametrize("kept", [0, 4, 100, 0.5, 0.999])
def test_a_truncated_file(saved: Path, kept: float) -> None:
    """From nothing through half of the header to all but the last tensor."""
    data = (saved / WEIGHTS).read_bytes()
    (saved / WEIGHTS).write_bytes(data[: int(kept * len(data)) if kept < 1 else int(kept)])
    with pytest.raises(CheckpointError, match=r"model\.safetensors"):
        load_model(saved)


def test_a_missing_tensor(saved: Path) -> None:
    rewrite(saved, norm=None)
    with pytest.raises(CheckpointError, match=rf"1 tensors are missing, first {NORM}") as caught:
        load_model(saved)
    assert str(saved) in str(caught.value)


def test_a_wrong_shape(saved: Path) -> None:
    rewrite(saved, norm=torch.ones(47))
    with pytest.raises(CheckpointError, match=rf"{WEIGHTS}: {NORM} has shape \(47,\), expected \(48,\)"):
        load_model(saved)


def test_an_unexpected_tensor(saved: Path) -> None:
    rewrite(saved, surprise=torch.ones(2))
    with pytest.raises(CheckpointError, match=rf"{WEIGHTS}: surprise: unexpected tensor"):
        load_model(saved)


def test_no_weights(saved: Path) -> None:
    (saved / WEIGHTS).unlink()
    assert not is_model_dir(saved)
    with pytest.raises(CheckpointError, match=WEIGHTS):
        load_model(saved)


@pytest.mark.parametrize("text", ["", "{", "[1, 2]", "12", '{"hidden_size": 5', "\x00\xff"])
@pytest.mark.parametrize("name", ["config.json", "preprocessor_config.json"])
def test_not_json(saved: Path, name: str, text: str) -> None:
    (saved / name).write_bytes(text.encode("latin-1"))
    with pytest.raises(CheckpointError, match=rf"{name} is not (JSON|a JSON object)"):
        load_model(saved)


def test_no_config(tmp_path: Path) -> None:
    assert not is_model_dir(tmp_path)
    with pytest.raises(CheckpointError, match=r"config\.json does not exist"):
        load_config(tmp_path)


def test_an_index_without_a_map(saved: Path) -> None:
    (saved / "model.safetensors.index.json").write_text("{}", encoding="utf-8")
    with pytest.raises(CheckpointError, match=r"model\.safetensors\.index\.json.*weight_map"):
        load_model(saved)


def edit_config(directory: Path, **changes: Any) -> None:
    path = directory / "config.json"
    values = json.loads(path.read_text(encoding="utf-8"))
    values["text_config"] |= changes
    path.write_text(json.dumps(values), encoding="utf-8")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hidden_size": None}, r"config\.json: .*hidden_size"),
        ({"attention_chunk_size": None}, r"config\.json: .*attention_chunk_size"),
        ({"num_key_value_heads": 3}, r"config\.json: .*num_key_value_heads 3"),
    ],
)
def test_configs_of_other_models(saved: Path, changes: dict[str, Any], message: str) -> None:
    """Such as Llama Guard 4, which has the same classes and no chunks."""
    edit_config(saved, **changes)
    with pytest.raises(CheckpointError, match=message):
        load_model(saved)


def test_meta_is_no_place_to_save_from(tmp_path: Path) -> None:
    with torch.device("meta"):
        model = Llama4(tiny_model().config)
    with pytest.raises(Exception, match="meta"):
        save_model(model, tmp_path)
    assert not (tmp_path / WEIGHTS).exists()
