"""Adapters to PEFT and back: it reads what we write, computes the same, and so the other way round."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from peft import LoraConfig as PeftConfig
from peft import PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import Llama4ForCausalLM, Llama4ForConditionalGeneration

from camelid.checkpoint import load_model, open_model, save_model
from camelid.checkpoint.peft_layout import is_adapter_dir, load_adapter, save_adapter
from camelid.core.errors import CheckpointError
from camelid.model import Llama4, LoraConfig, add_lora, lora_state, merged_state_dict
from camelid.testing.tiny import NUM_SPECIAL_TOKENS, TinyKind, tiny_model

# PEFT asks transformers for a property of an older name.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")

CONFIG = LoraConfig(rank=3, alpha=12.0)
CONFIG_FILE, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"


def adapted(model: Llama4, config: LoraConfig = CONFIG) -> Llama4:
    """With adapters that do something."""
    add_lora(model, config, seed=1)
    for tensor in lora_state(model).values():
        torch.nn.init.normal_(tensor, std=0.1)
    return model


def base_at(path: Path, kind: TinyKind, vision: bool) -> Llama4ForCausalLM | Llama4ForConditionalGeneration:
    """The model under the adapter, as transformers has it."""
    save_model(tiny_model(kind, vision=vision), path, torch.float32, NUM_SPECIAL_TOKENS)
    family = Llama4ForConditionalGeneration if vision else Llama4ForCausalLM
    return family.from_pretrained(path, dtype=torch.float32).eval()


@pytest.mark.parametrize("vision", [True, False], ids=["seeing", "text only"])
@torch.no_grad()
def test_peft_reads_ours_and_computes_the_same(kind: TinyKind, vision: bool, tmp_path: Path) -> None:
    theirs = base_at(tmp_path / "base", kind, vision)
    ours = adapted(tiny_model(kind, vision=vision)).eval()
    save_adapter(ours, CONFIG, tmp_path / "adapter", base=str(tmp_path / "base"))
    assert is_adapter_dir(tmp_path / "adapter")
    theirs = PeftModel.from_pretrained(theirs, tmp_path / "adapter")
    token_ids = torch.arange(5, 25)
    logits = ours.logits(ours(token_ids).hidden)
    expected = theirs(input_ids=token_ids[None]).logits[0]
    torch.testing.assert_close(logits, expected, atol=1e-4, rtol=0)

    merged = tiny_model(kind, vision=vision).eval()
    unadapted = merged.logits(merged(token_ids).hidden)
    merged.load_state_dict(dict(merged_state_dict(ours)))
    assert (unadapted - logits).abs().max() > 0.1
    torch.testing.assert_close(merged.logits(merged(token_ids).hidden), logits, atol=1e-4, rtol=0)


@torch.no_grad()
def test_we_read_what_peft_writes(tmp_path: Path) -> None:
    theirs = base_at(tmp_path / "base", "scout", True)
    config = PeftConfig(
        r=2,
        lora_alpha=6,
        use_rslora=True,
        init_lora_weights=False,
        target_modules=r"language_model\..*\.(q_proj|o_proj)",
        target_parameters=["feed_forward.experts.gate_up_proj", "feed_forward.experts.down_proj"],
    )
    theirs = get_peft_model(theirs, config)
    theirs.save_pretrained(tmp_path / "adapter")
    ours = tiny_model("scout", vision=True).eval()
    read = load_adapter(ours, tmp_path / "adapter")
    assert read.targets == ("q_proj", "o_proj") and read.experts and read.rank == 2
    token_ids = torch.arange(5, 25)
    expected = theirs(input_ids=token_ids[None]).logits[0]
    torch.testing.assert_close(ours.logits(ours(token_ids).hidden), expected, atol=1e-4, rtol=0)


@torch.no_grad()
def test_bits_survive_the_disk(tmp_path: Path) -> None:
    ours = adapted(tiny_model())
    save_adapter(ours, CONFIG, tmp_path, base="somewhere")
    back = tiny_model()
    assert load_adapter(back, tmp_path) == CONFIG
    expected = lora_state(ours)
    assert lora_state(back).keys() == expected.keys()
    assert all(torch.equal(value, expected[name]) for name, value in lora_state(back).items())


@torch.no_grad()
def test_an_adapters_folder_is_read_like_a_models(kind: TinyKind, tmp_path: Path) -> None:
    """The base is named from the adapter's own folder; every expert alone is what the whole stack has."""
    save_model(tiny_model(kind, vision=True), tmp_path / "base", torch.float32, NUM_SPECIAL_TOKENS)
    ours = adapted(tiny_model(kind, vision=True))
    save_adapter(ours, CONFIG, tmp_path / "adapter", base="../base")
    expected = merged_state_dict(ours)
    read = load_model(tmp_path / "adapter").state_dict()
    assert read.keys() == expected.keys()
    assert all(torch.equal(value, read[name]) for name, value in expected.items())
    for name, tensor in open_model(tmp_path / "adapter").tensors.items():
        rows = torch.stack([tensor.read(row) for row in range(tensor.shape[0])])
        torch.testing.assert_close(rows, expected[name], atol=1e-6, rtol=0)

    config = json.loads((tmp_path / "adapter" / CONFIG_FILE).read_text())
    (tmp_path / "adapter" / CONFIG_FILE).write_text(json.dumps(config | {"base_model_name_or_path": "gone"}))
    with pytest.raises(CheckpointError, match="belongs to gone, which is not there"):
        open_model(tmp_path / "adapter")


def test_what_cannot_be_loaded_is_named(tmp_path: Path) -> None:
    save_adapter(adapted(tiny_model()), CONFIG, tmp_path, base="somewhere")
    config = json.loads((tmp_path / CONFIG_FILE).read_text())
    for name, value in (
        ("use_dora", True),
        ("modules_to_save", ["lm_head"]),
        ("rank_pattern", {"q_proj": 4}),
    ):
        (tmp_path / CONFIG_FILE).write_text(json.dumps(config | {name: value}))
        with pytest.raises(CheckpointError, match=name):
            load_adapter(tiny_model(), tmp_path)
    (tmp_path / CONFIG_FILE).write_text(json.dumps(config))

    tensors = load_file(tmp_path / WEIGHTS)
    name = min(tensors)
    save_file({key: value for key, value in tensors.items() if key != name}, tmp_path / WEIGHTS)
    with pytest.raises(CheckpointError, match="is missing"):
        load_adapter(tiny_model(), tmp_path)
    save_file(tensors | {"base_model.model.lm_head.lora_A.weight": torch.zeros(2)}, tmp_path / WEIGHTS)
    with pytest.raises(CheckpointError, match=r"1 tensors fit nowhere, first base_model\.model\.lm_head"):
        load_adapter(tiny_model(), tmp_path)
    save_file(tensors | {name: tensors[name][1:]}, tmp_path / WEIGHTS)
    with pytest.raises(CheckpointError, match=r"has shape \(\d+, \d+\), expected"):
        load_adapter(tiny_model(), tmp_path)
    (tmp_path / WEIGHTS).write_bytes(b"\x10")
    with pytest.raises(CheckpointError, match=WEIGHTS):
        load_adapter(tiny_model(), tmp_path)
