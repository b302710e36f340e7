"""The native decode step over pages against the model itself over plain caches."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor

from camelid.core.errors import InputError
from camelid.model import KVCache, Llama4
from camelid.model.native_decoder import NativeDecoder, can_decode_natively
from camelid.model.packed import pack_for_decoding
from camelid.model.paged_kv import PagedKV, PagedSequence
from camelid.ops.native import PAGE_SIZE, native_paths
from camelid.testing import TinyKind, tiny_model

PROMPTS = (1, 7, 19)  # tokens; a chunk of the tiny models has 16
NUM_STEPS = 70  # over the edges of chunks and pages


def packed_copy(model: Llama4) -> Llama4:
    packed = copy.deepcopy(model).bfloat16()
    pack_for_decoding(packed.language_model)
    return packed


def random_ids(model: Llama4, count: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, model.config.text.vocab_size, (count,), generator=generator)


def pool_for(model: Llama4) -> PagedKV:
    return PagedKV(model.config.text, {"chunked": 8, "global": 12})


@torch.inference_mode()
@pytest.mark.parametrize("instructions", native_paths())
def test_logits(kind: TinyKind, instructions: str) -> None:
    """fp32 decides which of two bf16 computations is nearer; a choice of expert that rounding turns counts for both."""
    exact = tiny_model(kind)
    plain, packed = copy.deepcopy(exact).bfloat16(), packed_copy(exact)
    assert can_decode_natively(packed) and not can_decode_natively(plain)
    pool = pool_for(exact)
    decode = NativeDecoder(packed, pool, instructions)
    sequences = [PagedSequence(pool) for _ in PROMPTS]
    caches = {model: [KVCache(exact.config.text) for _ in PROMPTS] for model in (exact, plain)}
    for index, length in enumerate(PROMPTS):
        prompt = random_ids(exact, length, index)
        sequences[index].reserve(length)
        packed(prompt, cache=sequences[index])
        for model in (exact, plain):
            model(prompt, cache=caches[model][index])
    errors: dict[str, list[float]] = {"ours": [], "theirs": []}
    for step in range(NUM_STEPS):
        ids = random_ids(exact, len(PROMPTS), 100 + step)
        found, _ = decode(ids, sequences)
        wanted, theirs = (
            torch.cat(
                [
                    model.logits(model(token[None], cache=cache).hidden)
                    for token, cache in zip(ids, caches[model], strict=True)
                ]
            )
            for model in (exact, plain)
        )
        for name, logits in (("ours", found), ("theirs", theirs.float())):
            errors[name] += (logits - wanted).square().mean(-1).sqrt().tolist()
    ours, theirs = (float(torch.tensor(errors[name]).median()) for name in ("ours", "theirs"))
    # The native step rounds less often: 0.004 to 0.005 against 0.006 to 0.007, of logits near 1.
    assert ours < 1.1 * theirs and theirs < 0.02, (ours, theirs)


@torch.inference_mode()
def test_a_sequence_does_not_feel_its_neighbours(kind: TinyKind) -> None:
    model = packed_copy(tiny_model(kind))

    def logits(rows: tuple[int, ...]) -> Tensor:
        pool = pool_for(model)
        decode, sequences = NativeDecoder(model, pool), [PagedSequence(pool) for _ in rows]
        ids = torch.stack([random_ids(model, 40, seed) for seed in rows])
        return torch.stack([decode(ids[:, step], sequences)[0] for step in range(40)], dim=1)

    together = logits((0, 1, 2, 3, 4, 5, 6))
    assert torch.equal(logits((3,))[0], together[3]) and torch.equal(logits((5, 0))[1], together[0])


@torch.inference_mode()
def test_chosen_experts(kind: TinyKind) -> None:
    model = tiny_model(kind)
    packed = packed_copy(model)
    pool = pool_for(model)
    _, routed = NativeDecoder(packed, pool)(ids := random_ids(model, 1, 0), [PagedSequence(pool)])
    for layer, choice in enumerate(routed[:, 0]):
        routing = packed(ids).routers.get(layer)
        assert choice.tolist() == ([-1] * len(choice) if routing is None else routing.expert_ids[0].tolist())


def test_pages(kind: TinyKind) -> None:
    """A chunked layer never holds more than a chunk; closing gives all back; too much is refused and takes nothing."""
    model = tiny_model(kind)
    text = model.config.text
    pool = PagedKV(text, {"chunked": 2, "global": 3})
    first, second = PagedSequence(pool), PagedSequence(pool)
    first.reserve(2 * PAGE_SIZE)
    assert (pool.num_free("chunked"), pool.num_free("global")) == (1, 1), "a chunk of 16 needs one page"
    with pytest.raises(
        InputError, match=r"65 positions need 2 more pages of the global layers' cache; 1 of 3 are free"
    ):
        second.reserve(PAGE_SIZE + 1)
    assert (pool.num_free("chunked"), pool.num_free("global")) == (1, 1)
    first.close()
    second.reserve(3 * PAGE_SIZE)
    assert (pool.num_free("chunked"), pool.num_free("global")) == (1, 0)


@torch.inference_mode()
def test_prompts_in_parts(kind: TinyKind) -> None:
    """Pages give back what plain caches would, whatever the parts in which a prompt arrives."""
    model = tiny_model(kind).bfloat16()
    ids = random_ids(model, 150, 0)
    whole = model(ids).hidden
    for parts in ((150,), (5, 11, 16, 100, 18), (70, 64, 16), (1,) * 150):
        sequence, plain = PagedSequence(pool_for(model)), KVCache(model.config.text)
        for part in ids.split(parts):
            sequence.reserve(len(part))
            paged = model(part, cache=sequence).hidden
            assert torch.equal(paged, model(part, cache=plain).hidden)
        assert (paged[-1] - whole[-1]).abs().max() < 0.1
