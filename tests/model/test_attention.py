"""iRoPE: what chunked layers see, what global layers do, and angles far out."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from camelid.model import Llama4, TextConfig, preset
from camelid.model.attention import Attention, Geometry
from camelid.model.config import LayerType
from camelid.ops import rope_frequencies
from camelid.testing.tiny import TinyKind, tiny_config, tiny_input, tiny_model

LAYER_TYPES: tuple[LayerType, ...] = ("chunked", "global")


def layer_outputs(model: Llama4, token_ids: Tensor) -> list[Tensor]:
    outputs: list[Tensor] = []
    handles = [
        layer.register_forward_hook(lambda _, __, out: outputs.append(out[0]))
        for layer in model.language_model.model.layers
    ]
    with torch.no_grad():
        model(token_ids)
    for handle in handles:
        handle.remove()
    return outputs


@pytest.mark.parametrize("kind", ["scout", "maverick", "dense"])
def test_a_change_stays_in_its_chunk_up_to_the_first_global_layer(kind: TinyKind) -> None:
    """Bit for bit. Without experts: which tokens share an expert decides how its matmul rounds."""
    model = tiny_model(kind, moe_layers=())
    token_ids = tiny_input(model.config, 48).token_ids
    other_ids = token_ids.clone()
    other_ids[0] += 1
    first_global = model.config.text.layer_types.index("global")
    pairs = zip(layer_outputs(model, token_ids), layer_outputs(model, other_ids), strict=True)
    for layer, (before, after) in enumerate(pairs):
        assert not torch.equal(before[:16], after[:16])
        assert torch.equal(before[16:], after[16:]) == (layer < first_global)


def test_a_chunk_is_a_document_of_its_own_without_global_layers() -> None:
    model = tiny_model("scout", layer_types=("chunked",) * 3, moe_layers=(0, 1, 2))
    token_ids = tiny_input(model.config, 48).token_ids
    with torch.no_grad():
        whole, second = model(token_ids).hidden, model(token_ids[16:32]).hidden
    torch.testing.assert_close(whole[16:32], second, atol=1e-5, rtol=0)  # measured: 4.8e-7


def run_attention(attention: Attention, config: TextConfig, x: Tensor) -> Tensor:
    geometry = Geometry(config)((x.shape[0],), None, x.device)
    with torch.no_grad():
        out: Tensor = attention(x, geometry, None)
    return out


@pytest.mark.parametrize("layer_type", LAYER_TYPES)
@pytest.mark.parametrize("use_qk_norm", [True, False])
def test_qk_norm_only_on_chunked_layers(layer_type: LayerType, use_qk_norm: bool) -> None:
    """Under a norm, queries and keys that are a hundred times longer change nothing."""
    config = tiny_config(use_qk_norm=use_qk_norm).text
    attention = Attention(config, layer_type)
    x = torch.randn(12, config.hidden_size)
    before = run_attention(attention, config, x)
    with torch.no_grad():
        attention.q_proj.weight *= 100
        attention.k_proj.weight *= 100
    is_invariant = torch.allclose(run_attention(attention, config, x), before, atol=1e-3)
    assert is_invariant == (use_qk_norm and layer_type == "chunked")


def test_qk_norm_is_per_head_after_rope() -> None:
    """By hand for one chunked layer: project, turn, divide each head by its RMS, attend."""
    config = tiny_config(num_attention_heads=2, num_key_value_heads=1, rope_scaling=None).text
    attention = Attention(config, "chunked")
    x = torch.randn(5, config.hidden_size)
    frequencies = config.rope_theta ** (-torch.arange(0, 16, 2) / 16)
    turns = torch.polar(torch.ones(5, 8), torch.outer(torch.arange(5), frequencies))

    def heads(project: torch.nn.Linear, number: int) -> Tensor:
        pairs = torch.view_as_complex(project(x).view(5, number, 8, 2)) * turns[:, None]
        turned = torch.view_as_real(pairs).flatten(2)
        return turned / (turned.square().mean(-1, keepdim=True) + config.rms_norm_eps).sqrt()

    with torch.no_grad():
        q, k = heads(attention.q_proj, 2), heads(attention.k_proj, 1)[:, 0]
        scores = torch.einsum("qhd,kd->hqk", q, k) / math.sqrt(16)
        weights = scores.masked_fill(~torch.ones(5, 5).tril().bool(), -torch.inf).softmax(-1)
        mixed = torch.einsum("hqk,kd->qhd", weights, attention.v_proj(x))
        expected = attention.o_proj(mixed.flatten(1))
    torch.testing.assert_close(run_attention(attention, config, x), expected, atol=1e-5, rtol=0)


def test_global_layers_know_no_positions_but_the_temperature() -> None:
    """The last token's view of a shuffled past is the same: order reaches a global layer only through s(p)."""
    config = tiny_config().text
    x = torch.randn(14, config.hidden_size)
    shuffled = torch.cat([x[torch.randperm(13)], x[13:]])
    for layer_type in LAYER_TYPES:
        attention = Attention(config, layer_type)
        before, after = (run_attention(attention, config, y)[-1] for y in (x, shuffled))
        assert torch.allclose(before, after, atol=1e-5) == (layer_type == "global")


def test_temperature_starts_at_the_first_step_and_on_global_layers_only() -> None:
    """floor_scale 8: positions 0 to 6 have factor 1, from position 7 on queries are longer."""
    tuned, plain = (tiny_config(attn_temperature_tuning=is_on).text for is_on in (True, False))
    x = torch.randn(16, tuned.hidden_size)
    for layer_type in LAYER_TYPES:
        attention = Attention(tuned, layer_type)
        moved = (run_attention(attention, tuned, x) - run_attention(attention, plain, x)).abs().amax(1) > 1e-6
        is_scaled = layer_type == "global"
        assert moved.tolist() == [False] * 7 + [is_scaled] * 9


def test_temperature_counts_from_the_start_of_the_document() -> None:
    config = tiny_config().text
    packed = Geometry(config)((20, 9), None, torch.device("cpu")).temperature
    continued = Geometry(config)((9,), 20, torch.device("cpu")).temperature
    alone = Geometry(config)((29,), None, torch.device("cpu")).temperature
    assert packed is not None and continued is not None and alone is not None
    assert torch.equal(packed[20:], alone[:9])
    assert torch.equal(continued, alone[20:])
    assert alone.unique().tolist() == pytest.approx([1 + 0.1 * math.log(n) for n in (1, 2, 3, 4)])


# Largest error of the phase between a query and a key of one chunk, in radians: measured against fp64.
@pytest.mark.parametrize(
    ("chunk_start", "absolute_error"), [(8192, 1e-3), (122_880, 8e-3), (1_048_576, 0.06), (10_477_568, 1.0)]
)
def test_angles_far_out(chunk_start: int, absolute_error: float) -> None:
    """Position mod chunk gives the same bits in every chunk; fp32 angles at absolute positions drift away."""
    config = preset("scout").text
    frequencies = rope_frequencies(128, 500_000.0, 16.0)
    exact = torch.outer(torch.arange(8192.0, dtype=torch.float64), frequencies.double())

    def turns_and_error(*, absolute_positions: bool) -> tuple[Tensor, float]:
        geometry = Geometry(config, absolute_positions)((8192,), chunk_start, torch.device("cpu"))
        phases = (geometry.turns / geometry.turns[:1]).to(torch.complex128)
        errors = (phases * torch.polar(torch.ones_like(exact), -exact)).angle()
        return geometry.turns, float((errors.amax(0) - errors.amin(0)).max())

    turns, error = turns_and_error(absolute_positions=False)
    assert torch.equal(turns, Geometry(config)((8192,), None, torch.device("cpu")).turns)
    assert error < 6e-4
    _, error = turns_and_error(absolute_positions=True)
    assert error == pytest.approx(absolute_error, rel=0.2)
