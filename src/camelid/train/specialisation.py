"""What experts do: their load, and how much a choice of expert tells about a token.

The measure is mutual information I(expert; attribute) over the attribute's entropy: 0 if experts do not care, 1 if
knowing the expert is knowing the attribute. Counted on a sample it is too large, so the mean of what shuffled
attributes give is taken off above and below, (I - b) / (H - b). Documents are shuffled where a document has the
attribute (its tokens are no independent witnesses), tokens where a token has it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow
import torch
from jaxtyping import Int
from torch import Tensor

from camelid.core import Config
from camelid.core.errors import ConfigError
from camelid.train.routing_trace import RoutingTrace

__all__ = [
    "ATTRIBUTES",
    "PATCH_NAMES",
    "Information",
    "LayerReport",
    "Specialisation",
    "adjusted_information",
    "counts_table",
    "entropy",
    "expert_table",
    "measure",
    "mutual_information",
    "position_buckets",
    "saturation",
]

ATTRIBUTES = ("domain", "modality", "patch", "token", "position")
OF_DOCUMENTS = ("domain", "modality")
PATCH_NAMES = ("text tokens", "patch tokens")
NUM_SHUFFLES = 4


@dataclass(frozen=True)
class Information(Config):
    """Of expert and attribute, in nats: I as counted, I of shuffled attributes (mean), the entropy of the attribute and
    of the expert. `of_attribute` and `of_choice` are the corrected shares of the two entropies.
    """

    nats: float
    shuffled_nats: float
    attribute_nats: float
    choice_nats: float
    of_attribute: float
    of_choice: float


@dataclass(frozen=True)
class LayerReport(Config):
    """One MoE layer. `loads` are each expert's share of the choices, `gate_mean` its mean score (0 without a token).

    `from_layer_before` is how often the expert here is guessed right from that in the MoE layer before, and
    `guessed_blindly` how often without; both None in the first. `saturation` is the share of choices that an earlier
    checkpoint made alike, None without one.
    """

    layer: int
    loads: tuple[float, ...]
    gate_mean: tuple[float, ...]
    max_vio: float
    num_dead: int
    information: dict[str, Information]
    from_layer_before: float | None
    guessed_blindly: float | None
    saturation: float | None


@dataclass(frozen=True)
class Specialisation(Config):
    """Of all MoE layers, over `num_tokens` tokens in `num_documents` documents."""

    num_tokens: int
    num_documents: int
    num_experts: int
    domains: dict[str, int]
    modalities: dict[str, int]
    layers: tuple[LayerReport, ...]
    schema: str = "experts/1"


def measure(trace: RoutingTrace, earlier: RoutingTrace | None = None, seed: int = 0) -> Specialisation:
    """Everything about a trace; `earlier` is that of another checkpoint over the same batches.

    ConfigError if the two are not over the same tokens.
    """
    generator = torch.Generator().manual_seed(seed)
    nothing: list[float | None] = [None] * len(trace.layers)
    saturations: Sequence[float | None] = nothing if earlier is None else saturation(earlier, trace)
    attributes = {name: _codes(trace, name) for name in ATTRIBUTES}
    reports = []
    for row, layer in enumerate(trace.layers):
        ids = trace.expert_ids[row]
        counts = torch.bincount(ids.flatten(), minlength=trace.num_experts)
        before = None if row == 0 else trace.expert_ids[row - 1][:, 0]
        guess = None if before is None else _guesses(before, ids[:, 0], trace.num_experts)
        reports.append(
            LayerReport(
                layer=layer,
                loads=tuple((counts / counts.sum()).tolist()),
                gate_mean=tuple((trace.gate_sums[row] / counts.clamp(min=1)).tolist()),
                max_vio=float(counts.max() / counts.double().mean() - 1),
                num_dead=int((counts == 0).sum()),
                information={
                    name: _information(trace, ids, name, codes, generator)
                    for name, codes in attributes.items()
                },
                from_layer_before=None if guess is None else guess[0],
                guessed_blindly=None if guess is None else guess[1],
                saturation=saturations[row],
            )
        )
    return Specialisation(
        num_tokens=trace.num_tokens,
        num_documents=len(trace.document_sources),
        num_experts=trace.num_experts,
        domains=_tokens_by_name(trace, "domain"),
        modalities=_tokens_by_name(trace, "modality"),
        layers=tuple(reports),
    )


def entropy(counts: Tensor) -> float:
    """In nats, of the distribution that the counts are in proportion to."""
    shares = counts.double().flatten() / counts.sum()
    return float(-torch.xlogy(shares, shares).sum())


def mutual_information(table: Int[Tensor, "attributes experts"]) -> float:
    """In nats, as counted: H(attribute) + H(expert) - H(both); never below 0."""
    return max(0.0, entropy(table.sum(1)) + entropy(table.sum(0)) - entropy(table))


def adjusted_information(nats: float, shuffled_nats: float, entropy_nats: float) -> float:
    """(I - b) / (H - b), which is 0 where an attribute has but one value or chance explains all."""
    room = entropy_nats - shuffled_nats
    return (nats - shuffled_nats) / room if room > 1e-9 else 0.0


def saturation(earlier: RoutingTrace, later: RoutingTrace) -> list[float]:
    """By layer the share of the later model's choices that the earlier one made as well (OLMoE, 2409.02060)."""
    if (
        not torch.equal(earlier.token_ids, later.token_ids)
        or earlier.expert_ids.shape != later.expert_ids.shape
    ):
        raise ConfigError(
            f"saturation compares two checkpoints of one model on the same tokens; got {earlier.num_tokens:,} and "
            f"{later.num_tokens:,} tokens in {len(earlier.layers)} and {len(later.layers)} MoE layers"
        )
    is_kept = (later.expert_ids[..., :, None] == earlier.expert_ids[..., None, :]).any(-1)
    kept: list[float] = is_kept.double().mean((1, 2)).tolist()
    return kept


def position_buckets(positions: Int[Tensor, "tokens"]) -> Int[Tensor, "tokens"]:
    """0, 1, 2-3, 4-7, … as 0, 1, 2, 3, …"""
    return torch.frexp(positions.double()).exponent.long()


def expert_table(trace: RoutingTrace, attribute: str, row: int) -> Int[Tensor, "attributes experts"]:
    """How many choices of MoE layer number `row` fell on each expert, by value of the attribute."""
    codes = _codes(trace, attribute)
    return _table(codes, trace.expert_ids[row], int(codes.max()) + 1, trace.num_experts)


def counts_table(trace: RoutingTrace) -> pyarrow.Table:
    """All raw counts as one arrow table: layer, attribute, value, expert, count; cells of 0 are left out."""
    columns: dict[str, list[int | str]] = {
        name: [] for name in ("layer", "attribute", "value", "expert", "count")
    }
    names = {"domain": trace.source_names, "modality": trace.modality_names, "patch": PATCH_NAMES}
    for attribute in ATTRIBUTES:
        for row, layer in enumerate(trace.layers):
            table = expert_table(trace, attribute, row)
            values, experts = table.nonzero(as_tuple=True)
            columns["layer"] += [layer] * len(values)
            columns["attribute"] += [attribute] * len(values)
            columns["value"] += [
                names[attribute][value] if attribute in names else str(value) for value in values.tolist()
            ]
            columns["expert"] += experts.tolist()
            columns["count"] += table[values, experts].tolist()
    return pyarrow.table(columns)


def _codes(trace: RoutingTrace, attribute: str) -> Int[Tensor, "tokens"]:
    """The attribute of every token as a small number."""
    if attribute == "token":
        return trace.token_ids
    if attribute == "position":
        return position_buckets(trace.positions)
    if attribute == "patch":
        return trace.is_patch.long()
    return _document_codes(trace, attribute)[trace.document_ids]


def _document_codes(trace: RoutingTrace, attribute: str) -> Int[Tensor, "documents"]:
    names, values = (
        (trace.source_names, trace.document_sources)
        if attribute == "domain"
        else (trace.modality_names, trace.document_modalities)
    )
    return torch.tensor([names.index(value) for value in values])


def _table(codes: Tensor, ids: Tensor, num_values: int, num_experts: int) -> Tensor:
    cells = codes[:, None] * num_experts + ids
    return torch.bincount(cells.flatten(), minlength=num_values * num_experts).view(num_values, num_experts)


def _information(
    trace: RoutingTrace, ids: Tensor, attribute: str, codes: Tensor, generator: torch.Generator
) -> Information:
    size = int(codes.max()) + 1
    table = _table(codes, ids, size, trace.num_experts)
    shuffled = []
    for _ in range(NUM_SHUFFLES):
        if attribute in OF_DOCUMENTS:
            of_documents = _document_codes(trace, attribute)
            order = torch.randperm(len(of_documents), generator=generator)
            mixed = of_documents[order][trace.document_ids]
        else:
            mixed = codes[torch.randperm(len(codes), generator=generator)]
        shuffled.append(mutual_information(_table(mixed, ids, size, trace.num_experts)))
    nats, baseline = mutual_information(table), sum(shuffled) / len(shuffled)
    of_attribute, of_choice = entropy(table.sum(1)), entropy(table.sum(0))
    return Information(
        nats=nats,
        shuffled_nats=baseline,
        attribute_nats=of_attribute,
        choice_nats=of_choice,
        of_attribute=adjusted_information(nats, baseline, of_attribute),
        of_choice=adjusted_information(nats, baseline, of_choice),
    )


def _guesses(before: Tensor, here: Tensor, num_experts: int) -> tuple[float, float]:
    """How often the likeliest expert is right, known the one before, and not known."""
    table = _table(before, here[:, None], num_experts, num_experts)
    total = int(table.sum())
    return int(table.amax(1).sum()) / total, int(table.sum(0).max()) / total


def _tokens_by_name(trace: RoutingTrace, attribute: str) -> dict[str, int]:
    names = trace.source_names if attribute == "domain" else trace.modality_names
    counts = torch.bincount(_codes(trace, attribute), minlength=len(names)).tolist()
    return dict(zip(names, counts, strict=True))
