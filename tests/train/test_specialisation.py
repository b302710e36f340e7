"""What experts tell of a token: tables whose information is known on paper, and traces of real models."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from camelid.core import Batch
from camelid.core.errors import ConfigError
from camelid.testing.tiny import tiny_config, tiny_input, tiny_model
from camelid.train.routing_trace import RoutingTrace, trace_routing
from camelid.train.specialisation import (
    Specialisation,
    adjusted_information,
    counts_table,
    entropy,
    expert_table,
    measure,
    mutual_information,
    position_buckets,
    saturation,
)
from train.toy_training import MODEL, toy_batch, toy_model


def test_information_in_closed_form() -> None:
    independent = torch.tensor([[6, 2], [3, 1], [9, 3]])
    assert mutual_information(independent) == pytest.approx(0.0, abs=1e-12)
    assert mutual_information(torch.tensor([[5, 0, 0], [0, 7, 0], [0, 0, 9]])) == pytest.approx(
        entropy(torch.tensor([5, 7, 9]))
    )
    # A binary symmetric channel that errs one time in eight: ln 2 - H(1/8).
    noise = -(math.log(1 / 8) / 8 + 7 * math.log(7 / 8) / 8)
    assert mutual_information(torch.tensor([[7, 1], [1, 7]])) == pytest.approx(math.log(2) - noise)
    # Two experts that share out one value of four between them tell all the same.
    assert mutual_information(torch.tensor([[1, 1, 0], [0, 0, 2]])) == pytest.approx(math.log(2))


def test_chance_is_taken_off_above_and_below() -> None:
    assert adjusted_information(0.1, 0.1, 2.0) == 0
    assert adjusted_information(2.0, 0.3, 2.0) == 1
    assert adjusted_information(0.0, 0.0, 0.0) == 0, "an attribute of one value has nothing to tell"


def made_up(expert_ids: Tensor, sources: tuple[str, ...], length: int, token_ids: Tensor) -> RoutingTrace:
    """One layer over documents of equal length."""
    num_tokens = len(sources) * length
    return RoutingTrace(
        layers=(3,),
        num_experts=4,
        expert_ids=expert_ids.view(1, num_tokens, 1),
        gate_sums=torch.zeros(1, 4, dtype=torch.float64),
        token_ids=token_ids,
        positions=torch.arange(length).repeat(len(sources)),
        is_patch=torch.zeros(num_tokens, dtype=torch.bool),
        document_ids=torch.arange(len(sources)).repeat_interleave(length),
        document_sources=sources,
        document_modalities=("text",) * len(sources),
    )


def test_an_expert_for_each_source_and_one_for_nobody() -> None:
    sources = ("books", "scenes", "names") * 40
    ids = torch.tensor([sorted(set(sources)).index(source) for source in sources]).repeat_interleave(20)
    report = measure(made_up(ids, sources, 20, torch.randint(50, (2400,))))
    (layer,) = report.layers
    assert layer.information["domain"].of_attribute == pytest.approx(1.0)
    assert layer.information["domain"].attribute_nats == pytest.approx(math.log(3))
    assert layer.information["modality"].of_attribute == 0
    for name in ("token", "position"):
        assert abs(layer.information[name].of_choice) < 0.05, name
    assert (layer.layer, layer.num_dead, layer.max_vio) == (3, 1, pytest.approx(1 / 3))
    assert layer.loads == pytest.approx([1 / 3] * 3 + [0])
    assert report.domains == {"books": 800, "names": 800, "scenes": 800}
    assert Specialisation.from_json(report.to_json()) == report


def test_experts_that_do_not_care_tell_nothing_and_uncorrected_counts_would_say_they_do() -> None:
    """400 token ids over 1,200 tokens: as counted, chance alone tells a third of the expert."""
    ids, tokens = torch.randint(4, (1200,)), torch.randint(400, (1200,))
    layer = measure(made_up(ids, ("a", "b") * 30, 20, tokens)).layers[0]
    assert layer.information["token"].nats / layer.information["token"].choice_nats > 0.3
    for name, found in layer.information.items():
        assert abs(found.of_choice) < 0.05, name
        assert abs(found.of_attribute) < 0.05, name


def test_documents_are_the_witnesses_of_what_a_document_has() -> None:
    """Every document keeps to one expert, drawn blindly of its source: 20 tokens alike are one observation."""
    ids = torch.randint(4, (24,)).repeat_interleave(20)
    found = measure(made_up(ids, ("a", "b") * 12, 20, torch.zeros(480, dtype=torch.long))).layers[0]
    domain = found.information["domain"]
    assert domain.shuffled_nats > 0.02, "shuffled tokens would give 3 / 960"
    assert abs(domain.of_attribute) < 0.15


def test_token_position_and_patches() -> None:
    assert position_buckets(torch.tensor([0, 1, 2, 3, 4, 7, 8, 1023])).tolist() == [0, 1, 2, 2, 3, 3, 4, 10]
    tokens = torch.randint(4, (1200,))
    by_token = measure(made_up(tokens, ("a",) * 60, 20, tokens)).layers[0].information
    assert by_token["token"].of_attribute == pytest.approx(1.0)
    assert by_token["token"].of_choice == pytest.approx(1.0)
    positions = position_buckets(torch.arange(8).repeat(150))
    by_place = measure(made_up(positions, ("a",) * 150, 8, tokens)).layers[0].information
    assert by_place["position"].of_attribute == pytest.approx(1.0)


def test_a_trace_is_what_the_model_did() -> None:
    """Documents with pictures in two batches; scores and choices as the routers gave them."""
    model, batches = toy_model(), [toy_batch(0), toy_batch(1)]
    batches[0] = replace(batches[0], document_sources=("drawings", "books"))
    seen: list[int] = []
    trace = trace_routing(model, batches, seen.append)
    assert seen == [47, 47]
    assert trace.layers == (0, 1)
    with torch.inference_mode():
        outputs = [
            model(b.token_ids, b.document_lengths, b.tiles, b.patch_positions).routers for b in batches
        ]
    for row, layer in enumerate(trace.layers):
        ids = torch.cat([routers[layer].expert_ids for routers in outputs])
        logits = torch.cat([routers[layer].logits for routers in outputs])
        assert torch.equal(trace.expert_ids[row], ids)
        gates = torch.zeros(4).index_add_(0, ids[:, 0], logits.gather(1, ids)[:, 0].sigmoid())
        torch.testing.assert_close(trace.gate_sums[row].float(), gates)
    assert trace.document_sources == ("drawings", "books", "", "")
    assert trace.document_modalities == ("image", "text", "image", "text")
    assert trace.is_patch.nonzero()[:, 0].tolist() == [3, 4, 5, 6, 50, 51, 52, 53]
    assert trace.positions.tolist() == [*range(30), *range(17)] * 2
    report = measure(trace)
    assert report.modalities == {"text": 34, "image": 60}
    assert report.layers[0].from_layer_before is None
    after = report.layers[1]
    assert after.from_layer_before is not None and after.guessed_blindly is not None
    assert 1 >= after.from_layer_before >= after.guessed_blindly >= 0.25


def test_several_choices_a_token_and_layers_without_experts() -> None:
    model = tiny_model("dense")
    batch = Batch.pack([tiny_input(tiny_config("dense"), 40)])
    trace = trace_routing(model, [batch])
    assert trace.layers == (0, 3)
    assert trace.expert_ids.shape == (2, 40, 2)
    assert expert_table(trace, "position", 1).sum() == 80
    assert sum(measure(trace).layers[0].loads) == pytest.approx(1.0)


def test_saturation_counts_choices_that_stayed() -> None:
    trace = trace_routing(toy_model(), [toy_batch(0)])
    assert saturation(trace, trace) == [1.0, 1.0]
    moved = trace.expert_ids.clone()
    moved[1, :23] = (moved[1, :23] + 1) % 4
    assert saturation(replace(trace, expert_ids=moved), trace) == [1.0, pytest.approx(24 / 47)]
    assert measure(trace, trace).layers[1].saturation == 1
    with pytest.raises(ConfigError, match="on the same tokens; got 47 and 94"):
        saturation(trace, trace_routing(toy_model(), [toy_batch(0), toy_batch(1)]))


def test_raw_counts_add_up() -> None:
    trace = trace_routing(toy_model(), [toy_batch(0)])
    rows = counts_table(trace).to_pylist()
    for layer in trace.layers:
        for attribute in ("domain", "modality", "patch", "token", "position"):
            kept = [row["count"] for row in rows if (row["layer"], row["attribute"]) == (layer, attribute)]
            assert sum(kept) == 47
            assert 0 not in kept
    assert {row["value"] for row in rows if row["attribute"] == "patch"} == {"text tokens", "patch tokens"}


def test_nothing_to_look_at() -> None:
    with pytest.raises(ConfigError, match="no experts in its 2 layers"):
        trace_routing(tiny_model(layer_types=("chunked", "global"), moe_layers=()), [toy_batch(0)])
    with pytest.raises(ConfigError, match="no batch"):
        trace_routing(toy_model(), [])
    assert MODEL.text.moe_layers == (0, 1)
