"""Meta's layout: read by Meta's own code, joined by Meta's own code, and files that are not what they should be."""

from __future__ import annotations

import json
import pickle
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

from camelid.checkpoint import is_model_dir, load_model, open_model, write_meta
from camelid.checkpoint.meta_params import config_from_params
from camelid.checkpoint.stored_model import stored
from camelid.core.errors import CheckpointError, ConfigError
from camelid.model import Llama4, preset
from camelid.testing import tiny_model
from camelid.testing.meta_reference import tiny_model_for_meta


def assert_same(one: Llama4, other: Llama4) -> None:
    ours, theirs = one.state_dict(), other.state_dict()
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        assert tensor.dtype == theirs[name].dtype and torch.equal(tensor, theirs[name]), name


def shards_of(directory: Path) -> list[dict[str, Tensor]]:
    return [torch.load(path, weights_only=True) for path in sorted(directory.glob("*.pth"))]


@pytest.mark.parametrize("ranks", [1, 2, 4])
@pytest.mark.parametrize("kind", ["scout", "maverick"])
def test_bits_survive_any_number_of_ranks(kind: Any, ranks: int, tmp_path: Path) -> None:
    model = tiny_model_for_meta(kind).bfloat16()
    write_meta(stored(model), tmp_path, ranks=ranks)
    assert is_model_dir(tmp_path) and len(list(tmp_path.iterdir())) == ranks + 1
    assert_same(load_model(tmp_path, torch.bfloat16), model)


@pytest.mark.parametrize("kind", ["scout", "maverick"])
def test_metas_code_joins_our_ranks(kind: Any, tmp_path: Path) -> None:
    """`reshard_mp` of llama-models, from two ranks to one, gives the file that we write for one."""
    from llama_models.checkpoint import convert_moe_weights, reshard_mp

    model = tiny_model_for_meta(kind)
    write_meta(stored(model), tmp_path / "one")
    write_meta(stored(model), tmp_path / "two", ranks=2)
    whole = shards_of(tmp_path / "one")[0]
    experts = model.config.text.num_local_experts
    joined = reshard_mp([convert_moe_weights(shard, experts) for shard in shards_of(tmp_path / "two")], 1, 0)
    assert joined.keys() == whole.keys()
    for name, tensor in whole.items():
        assert torch.equal(joined[name].flatten(), tensor.flatten()), name


def test_the_config_survives(tmp_path: Path) -> None:
    model = tiny_model_for_meta("scout")
    write_meta(stored(model), tmp_path)
    found = open_model(tmp_path).config
    # params.json has no place for the context length nor for the number of tiles.
    assert model.config.vision is not None and found.vision is not None
    text = model.config.text.replace(max_position_embeddings=found.text.max_position_embeddings)
    assert found.text == text
    assert found.vision.replace(max_tiles=model.config.vision.max_tiles) == model.config.vision


def rewrite(path: Path, **changes: Any) -> None:
    shard = torch.load(path, weights_only=True)
    for name, value in changes.items():
        name = name.replace("__", ".")
        shard.pop(name, None)
        if value is not None:
            shard[name] = value
    torch.save(shard, path)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    write_meta(stored(tiny_model_for_meta("maverick")), tmp_path, ranks=2)
    return tmp_path


def test_older_names_and_leftovers(saved: Path) -> None:
    """Norms under their runtime names, extra states and statistics of training."""
    import io

    for path in saved.glob("*.pth"):
        shard = torch.load(path, weights_only=True)
        for name in list(shard):
            if name.endswith("attention.wqkv.layer_norm_weight"):
                shard[name.replace("attention.wqkv.layer_norm_weight", "attention_norm.weight")] = shard.pop(
                    name
                )
        extra = {
            "layers.0.attention.wqkv._extra_state": io.BytesIO(b"x"),
            "rope.freqs": torch.zeros(4),
            "layers.1.feed_forward.running_gate_stats_3E": torch.zeros(3, 4),
        }
        torch.save(shard | extra, path)
    assert_same(load_model(saved), tiny_model_for_meta("maverick"))


class _Command:
    def __reduce__(self) -> Any:
        return print, ("code ran",)


def test_code_in_a_pickle_never_runs(saved: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({"norm.weight": _Command()}, saved / "consolidated.01.pth")
    with pytest.raises(CheckpointError, match=r"consolidated\.01\.pth holds more than weights.*never run"):
        open_model(saved)
    assert "code ran" not in capsys.readouterr().out


@pytest.mark.parametrize("kept", [0, 10, 0.5, 0.99])
def test_a_truncated_rank(saved: Path, kept: float) -> None:
    path = saved / "consolidated.00.pth"
    data = path.read_bytes()
    path.write_bytes(data[: int(kept * len(data)) if kept < 1 else int(kept)])
    with pytest.raises(CheckpointError, match=r"consolidated\.00\.pth"):
        open_model(saved)


def test_not_a_dictionary(saved: Path) -> None:
    torch.save([1], saved / "consolidated.00.pth")
    with pytest.raises(CheckpointError, match="holds a list, expected a dict"):
        open_model(saved)
    (saved / "consolidated.00.pth").write_bytes(pickle.dumps({"a": 1}))
    with pytest.raises(CheckpointError, match=r"consolidated\.00\.pth"):
        open_model(saved)


def test_a_missing_rank(saved: Path) -> None:
    (saved / "consolidated.00.pth").unlink()
    with pytest.raises(CheckpointError, match=r"ranks are missing.*consolidated\.01"):
        open_model(saved)


def test_a_missing_tensor_and_a_wrong_shape(saved: Path) -> None:
    path = saved / "consolidated.01.pth"
    rewrite(path, norm__weight=torch.zeros(5))
    with pytest.raises(CheckpointError, match=r"01\.pth: norm\.weight has shape \(5,\), expected \(48,\)"):
        open_model(saved)
    rewrite(path, norm__weight=None)
    with pytest.raises(CheckpointError, match=r"01\.pth lacks norm\.weight"):
        open_model(saved)


@pytest.mark.parametrize("name", ["dim", "n_layers", "n_heads"])
def test_params_that_lack_something(saved: Path, name: str) -> None:
    params = json.loads((saved / "params.json").read_text(encoding="utf-8"))
    del params[name]
    (saved / "params.json").write_text(json.dumps(params), encoding="utf-8")
    with pytest.raises(CheckpointError, match=rf"params\.json lacks '{name}'"):
        open_model(saved)


def test_what_the_format_cannot_hold(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="every n-th only"):
        write_meta(stored(tiny_model("dense", head_dim=12)), tmp_path)
    with pytest.raises(CheckpointError, match="do not divide by 5 ranks"):
        write_meta(stored(tiny_model_for_meta("scout")), tmp_path, ranks=5)
    assert not list(tmp_path.iterdir())


def per_row_fp8(weight: Tensor) -> tuple[Tensor, Tensor]:
    """As `quantize_fp8_per_row` of FBGEMM: one scale per row, the largest value at e4m3's largest."""
    scale = weight.float().abs().amax(-1).clamp(min=1e-12) / 448
    return (weight.float() / scale[..., None]).to(torch.float8_e4m3fn), scale


@pytest.fixture
def quantisers(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Meta's own int4 functions, whose module asks for a GPU library that these do not use."""
    for name in ("fbgemm_gpu", "fbgemm_gpu.experimental", "fbgemm_gpu.experimental.gen_ai"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    from llama_models import quantize_impls

    return quantize_impls  # type: ignore[no-any-return]


@pytest.mark.parametrize("bits", ["fp8", "int4"])
@pytest.mark.parametrize("ranks", [1, 2])
def test_quantised_releases(bits: str, ranks: int, tmp_path: Path, quantisers: ModuleType) -> None:
    """Written as Meta's `scripts/quantize.py` does; every value is then within half a step of the original."""
    model = tiny_model_for_meta("maverick", intermediate_size=256, hidden_size=128, head_dim=32).bfloat16()
    count = model.config.text.num_local_experts
    write_meta(stored(model), tmp_path, ranks=ranks)
    names = {"w1": "moe_w_in_eD_F", "w2": "moe_w_out_eF_D", "w3": "moe_w_swiglu_eD_F"}
    for rank, path in enumerate(sorted(tmp_path.glob("*.pth"))):
        shard, scales = torch.load(path, weights_only=True), {}
        for short, long in names.items():
            key = f"layers.3.feed_forward.experts.{long}"
            weight = shard[key].view(count, -1, shard[key].shape[-1]).transpose(1, 2).contiguous()
            if bits == "fp8":
                values, scale = per_row_fp8(weight)
            else:
                pairs = [quantisers.int4_row_quantize(expert) for expert in weight]
                values = torch.stack([quantisers.pack_int4(packed) for packed, _ in pairs])
                scale = torch.stack([scale for _, scale in pairs])
            flat = values.transpose(1, 2).reshape(-1, shard[key].shape[-1]).contiguous()
            shard[key] = flat.view(torch.float8_e4m3fn)
            scales[f"layers.3.feed_forward.experts.{short}"] = scale
        torch.save(shard, path)
        torch.save(scales, tmp_path / f"{bits}_scales_{rank}.pt")
    loaded = load_model(tmp_path, torch.bfloat16)
    for name, tensor in model.state_dict().items():
        found = loaded.state_dict()[name]
        if "layers.3." in name and ".experts." in name:
            # Scales are per input group (int4, steps of 1/8 of the largest) or per output (fp8, 3 bits of mantissa).
            step = float(tensor.abs().max()) / 8 / 2 if bits == "int4" else 0.0
            close = (found - tensor).abs().float() <= (
                step * 2.1 if step else tensor.abs().float() / 15 + 1e-3
            )
            assert close.all() and not torch.equal(found, tensor), name
        else:
            assert torch.equal(found, tensor), name


def test_few_bits_without_scales(tmp_path: Path) -> None:
    write_meta(stored(tiny_model_for_meta("scout")), tmp_path)
    path = tmp_path / "consolidated.00.pth"
    key = "layers.0.feed_forward.experts.moe_w_in_eD_F"
    shard = torch.load(path, weights_only=True)
    torch.save(shard | {key: shard[key].to(torch.float8_e4m3fn)}, path)
    with pytest.raises(CheckpointError, match=rf"{key} is torch\.float8_e4m3fn and has no scales"):
        open_model(tmp_path)


def test_the_released_params() -> None:
    """Scout's and Maverick's params.json, as far as Meta's rules and published shapes give them, are our presets."""
    common = {
        "dim": 5120, "n_layers": 48, "n_heads": 40, "n_kv_heads": 8, "head_dim": 128, "multiple_of": 2048,
        "ffn_dim_multiplier": 1.2, "ffn_exp": 4.0, "norm_eps": 1e-5, "attention_chunk_size": 8192,
        "rope_theta": 500000, "nope_layer_interval": 4, "attn_temperature_tuning": True, "vocab_size": 202048,
    }  # fmt: skip
    for name, params in {
        "scout": {"use_scaled_rope": True, "use_qk_norm": True, "moe_args": {"num_experts": 16}},
        "maverick": {"moe_args": {"num_experts": 128, "interleave_moe_layer_step": 2}},
    }.items():
        dense = 0 if name == "scout" else 16384
        found = config_from_params(common | params, 202048, 8192, dense).text
        expected = preset(name).text
        context = found.max_position_embeddings
        assert found == expected.replace(max_position_embeddings=context), name
