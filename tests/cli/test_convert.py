"""`camelid convert` and `camelid inspect` as a person runs them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import HfApi, parse_local_safetensors_file_metadata
from huggingface_hub.utils import SafetensorsRepoMetadata
from rich.progress import Progress

from camelid.checkpoint import load_model, save_dense_model, save_model
from camelid.checkpoint.hub_layout import open_hub_model
from camelid.cli.inspect_model import cost_table
from camelid.cli.main import main
from camelid.core.errors import CheckpointError
from camelid.model import Llama4Config
from camelid.testing.meta_reference import tiny_model_for_meta
from camelid.testing.tiny import NUM_SPECIAL_TOKENS, tiny_config, tiny_model

WEIGHTS = "model.safetensors"


@pytest.fixture
def model_dir(tmp_path: Path) -> Path:
    path = tmp_path / "model"
    save_model(tiny_model_for_meta("maverick"), path, torch.bfloat16, NUM_SPECIAL_TOKENS)
    (path / "tokenizer.model").write_bytes(b"x 0\n")
    return path


def test_there_and_back_is_the_same_bytes(model_dir: Path, tmp_path: Path) -> None:
    meta, back = tmp_path / "meta", tmp_path / "back"
    assert main(["convert", str(model_dir), str(meta), "--to", "meta", "--model-parallel", "2"]) == 0
    assert sorted(path.name for path in meta.iterdir()) == [
        "consolidated.00.pth", "consolidated.01.pth", "params.json", "tokenizer.model",
    ]  # fmt: skip
    assert main(["convert", str(meta), str(back)]) == 0
    assert (back / WEIGHTS).read_bytes() == (model_dir / WEIGHTS).read_bytes()


@pytest.mark.parametrize("dtype", ["keep", "fp32"])
def test_both_bars_end_full(
    dtype: str, model_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is checked are the source's files, headers and all; what is written, the tensors as converted."""
    bars: list[Progress] = []

    class Recorded(Progress):
        def __init__(self, *columns: Any, **options: Any) -> None:
            super().__init__(*columns, **options)
            bars.append(self)

    monkeypatch.setattr("camelid.cli.convert.Progress", Recorded)
    assert main(["convert", str(model_dir), str(tmp_path / "out"), "--dtype", dtype]) == 0
    checking, writing = bars[0].tasks
    listed = [line.split()[1] for line in (model_dir / "SHA256SUMS").read_text().splitlines()]
    assert checking.completed == checking.total == sum((model_dir / name).stat().st_size for name in listed)
    bytes_each = 4 if dtype == "fp32" else 2
    num_values = sum(value.numel() for value in tiny_model_for_meta("maverick").parameters())
    assert writing.completed >= writing.total == num_values * bytes_each  # completed: the header too


def test_shards(model_dir: Path, tmp_path: Path) -> None:
    shards, whole = tmp_path / "shards", tmp_path / "whole"
    assert main(["convert", str(model_dir), str(shards), "--max-shard-gb", "0.0001"]) == 0
    assert len(list(shards.glob("model-*.safetensors"))) > 2
    assert main(["convert", str(shards), str(whole)]) == 0
    assert (whole / WEIGHTS).read_bytes() == (model_dir / WEIGHTS).read_bytes()
    assert load_model(shards).state_dict().keys() == load_model(model_dir).state_dict().keys()


def test_a_changed_byte_is_refused(
    model_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = bytearray((model_dir / WEIGHTS).read_bytes())
    data[-100] ^= 1
    (model_dir / WEIGHTS).write_bytes(data)
    assert main(["convert", str(model_dir), str(tmp_path / "out")]) == 2
    assert f"{WEIGHTS} was changed: its sha256 is" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    with pytest.raises(CheckpointError, match="was changed"):
        load_model(model_dir)


def test_nothing_is_overwritten(model_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").touch()
    assert main(["convert", str(model_dir), str(tmp_path / "out")]) == 2
    assert "not empty" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine"]


def test_inspect(model_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(model_dir)]) == 0
    out = capsys.readouterr().out
    for text in ("▂▂▂█▂▂▂█", "○●○●○●○●", "bfloat16", "SHA256SUMS", "256K"):
        assert text in out, text
    assert "10M" not in out, "the model promises 256K"
    assert f"{sum(p.numel() for p in tiny_model_for_meta('maverick').parameters()):,} in all" in out


def cache_bytes(config: Llama4Config, num_tokens: int) -> int:
    """What the cache's definition gives: keys and values of 2 heads of 16 in bf16, in the layers that keep them."""
    chunk_size = config.text.attention_chunk_size
    kept = [
        num_tokens if kind == "global" else min(num_tokens, chunk_size) for kind in config.text.layer_types
    ]
    return sum(kept) * 2 * 2 * 16 * 2


@pytest.mark.parametrize(
    ("longest", "spoken"),
    [
        (10_485_760, ["128K", "1M", "10M"]),
        (1_048_576, ["128K", "1M"]),
        (262_144, ["128K", "256K"]),
        (131_072, ["128K"]),
        (8192, ["8K"]),
        (1_000_000, ["128K", "1,000,000"]),
        (100, ["100"]),
    ],
)
def test_inspect_tells_of_contexts_that_the_model_has(longest: int, spoken: list[str]) -> None:
    config = tiny_config(max_position_embeddings=longest)
    columns = list(cost_table(config).columns)
    assert [column.header for column in columns[2:]] == [f"+ {tokens} tokens" for tokens in spoken]
    gigabytes = cache_bytes(config, longest) / 1e9
    last = list(columns[-1].cells)[-1]
    assert last == (f"{gigabytes:.1f}" if gigabytes >= 0.1 else f"{gigabytes:.3f}")


@pytest.mark.parametrize(
    ("fields", "growth"),
    [
        ({}, "768 bytes of cache per token up to a chunk of 16, 128 beyond it"),
        ({"attention_chunk_size": 64, "max_position_embeddings": 64}, "768 bytes of cache per token"),
        ({"layer_types": ("global",) * 6}, "768 bytes of cache per token"),
        (
            {"layer_types": ("chunked",) * 6},
            "768 bytes of cache per token up to a chunk of 16, none beyond it",
        ),
        (
            {"layer_types": ("chunked",) * 6, "attention_chunk_size": 64, "max_position_embeddings": 64},
            "768 bytes of cache per token",
        ),
    ],
)
def test_inspect_says_what_a_token_adds_to_the_cache(fields: dict[str, Any], growth: str) -> None:
    config = tiny_config(**fields)
    assert cache_bytes(config, 1) == 768
    assert cost_table(config).caption == growth


def test_inspect_a_dense_ancestor(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One chunk as long as its context of 2K."""
    layers: dict[str, Any] = {"layer_types": ("chunked",) * 6, "moe_layers": (), "use_qk_norm": False}
    context = {"attention_chunk_size": 2048, "max_position_embeddings": 2048}
    save_dense_model(tiny_model(**layers, **context), tmp_path / "dense")
    assert main(["inspect", str(tmp_path / "dense")]) == 0
    out = capsys.readouterr().out
    assert "2K" in out
    assert "768 bytes of cache per token" in out
    assert not any(words in out for words in ("128K", "1M", "10M", "a chunk of"))


def test_inspect_reads_headers_only(model_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Zeros in the place of all weights change nothing that it says, but for the digest's file."""
    size = (model_dir / WEIGHTS).stat().st_size
    header = int.from_bytes((model_dir / WEIGHTS).read_bytes()[:8], "little") + 8
    with (model_dir / WEIGHTS).open("r+b") as file:
        file.truncate(header)
        file.truncate(size)
    assert main(["inspect", str(model_dir)]) == 0
    assert "in all" in capsys.readouterr().out


@pytest.mark.parametrize(("where", "message"), [("/no/such", "neither a folder nor"), (".", r"config\.json")])
def test_nothing_to_inspect(
    where: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rich.console import Console

    from camelid.cli.inspect_model import inspect_model

    monkeypatch.chdir(tmp_path)
    with pytest.raises(CheckpointError, match=message):
        inspect_model(where, Console())


class LocalHub(HfApi):
    """The Hub's client, with a folder in the place of a repository."""

    def __init__(self, directory: Path) -> None:
        super().__init__()
        self.directory = directory

    def get_safetensors_metadata(self, repo_id: str, **_: object) -> SafetensorsRepoMetadata:
        file = parse_local_safetensors_file_metadata(self.directory / WEIGHTS)
        return SafetensorsRepoMetadata(None, False, dict.fromkeys(file.tensors, WEIGHTS), {WEIGHTS: file})

    def hf_hub_download(self, repo_id: str, filename: str, **_: object) -> str:  # type: ignore[override]
        return str(self.directory / filename)


def test_a_repository_of_the_hub(model_dir: Path) -> None:
    model = open_hub_model("org/name", LocalHub(model_dir))
    assert model.config == load_model(model_dir).config
    with pytest.raises(CheckpointError, match=r"org/name/model\.safetensors: .* was not downloaded"):
        model.load(torch.float32)


def test_the_hub_says_no(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError("no way out\nmore")

    api = HfApi()
    monkeypatch.setattr(api, "get_safetensors_metadata", refuse)
    with pytest.raises(CheckpointError, match=r"org/name: no way out$"):
        open_hub_model("org/name", api)
