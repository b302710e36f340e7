"""A model whose experts stay on disk answers as the one in memory does, within its bound."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from camelid.checkpoint import StreamPlan, load_within, open_model, save_model, write_meta
from camelid.checkpoint.stored_model import stored
from camelid.checkpoint.streaming import load_streamed, plan_stream
from camelid.core.memory import available_memory
from camelid.model import KVCache
from camelid.model.streamed_experts import ExpertCache, StreamedExperts
from camelid.testing import TinyKind, tiny_input, tiny_model
from camelid.testing.meta_reference import tiny_model_for_meta


@pytest.mark.parametrize("layout", ["hf", "meta"])
@torch.no_grad()
def test_logits_are_those_of_the_model_in_memory(layout: str, tmp_path: Path) -> None:
    model = tiny_model_for_meta("maverick").bfloat16()
    if layout == "hf":
        save_model(model, tmp_path)
    else:
        write_meta(stored(model), tmp_path, ranks=2)
    stored_model = open_model(tmp_path)
    plan = plan_stream(stored_model, 0)
    streamed = load_streamed(stored_model, plan)
    item = tiny_input(model.config, 40, (14,))
    arguments = (item.token_ids, None, item.tiles, item.patch_positions)
    expected, found = model(*arguments).hidden, streamed(*arguments).hidden
    # bf16 sums in another order; both are this far from fp32.
    torch.testing.assert_close(found.float(), expected.float(), atol=0.06, rtol=0)
    exact = load_streamed(stored_model.to(torch.float32), plan)
    expected = tiny_model_for_meta("maverick").bfloat16().float()(*arguments).hidden
    torch.testing.assert_close(exact(*arguments).hidden, expected, atol=2e-5, rtol=0)


@torch.no_grad()
def test_decoding_reads_only_what_is_chosen(kind: TinyKind, tmp_path: Path) -> None:
    model = tiny_model(kind)
    save_model(model, tmp_path, torch.float32)
    streamed = load_streamed(open_model(tmp_path), plan_stream(open_model(tmp_path), 0))
    layers = [module for module in streamed.modules() if isinstance(module, StreamedExperts)]
    cache = KVCache(model.config.text)
    streamed(torch.tensor([5]), None, None, None, cache)
    top_k = model.config.text.num_experts_per_tok
    assert layers[0].cache.num_reads == len(layers) * top_k
    expected = model(torch.tensor([5, 6])).hidden[1]
    torch.testing.assert_close(
        streamed(torch.tensor([6]), cache=cache).hidden[0], expected, atol=2e-5, rtol=0
    )


def test_the_cache_keeps_its_bound_and_what_was_used_last() -> None:
    reads: list[int] = []

    def read(expert: int) -> tuple[torch.Tensor, torch.Tensor]:
        reads.append(expert)
        return torch.full((2, 4), float(expert)), torch.zeros(2, 2)

    cache = ExpertCache(max_bytes=100)  # an expert has 48
    for expert in (0, 1, 0, 2, 0, 1):
        assert cache.get(0, expert, read)[0][0, 0] == expert
        assert cache.num_bytes <= 100
    assert reads == [0, 1, 2, 1] and (cache.num_reads, cache.num_hits) == (4, 2)
    cache.get(1, 0, read)
    assert reads[-1] == 0, "another layer's expert 0 is another expert"


def test_which_way_a_model_is_loaded(tmp_path: Path) -> None:
    model = tiny_model("maverick")
    save_model(model, tmp_path)
    plans: list[StreamPlan] = []
    size = sum(parameter.numel() for parameter in model.parameters())

    def kinds(memory_bytes: int | None) -> tuple[torch.dtype, bool]:
        loaded = load_within(tmp_path, memory_bytes, announce=plans.append)
        dtype = loaded.language_model.lm_head.weight.dtype
        return dtype, any(isinstance(module, StreamedExperts) for module in loaded.modules())

    assert kinds(None) == (torch.float32, False)
    assert kinds(4 * size) == (torch.float32, False)
    assert kinds(4 * size - 1) == (torch.bfloat16, False)
    assert kinds(2 * size) == (torch.bfloat16, False)
    assert not plans
    assert kinds(2 * size - 1) == (torch.bfloat16, True)
    assert len(plans) == 1 and "GB of experts stay on disk" in str(plans[0])


def test_the_estimate() -> None:
    plan = StreamPlan(10**9, 10 * 10**8, 10**8, 40, 4, read_seconds=0.5)
    assert plan.seconds_per_token == pytest.approx(4 * 0.75 * 0.5)
    assert "a token reads 0.4 GB at 0.2 GB/s when none is kept: about 1.5 s per token" in str(plan)


def test_memory_that_is_there() -> None:
    assert 10**8 < available_memory() < 10**14
