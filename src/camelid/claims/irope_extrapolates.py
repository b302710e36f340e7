"""Claim: what iRoPE learns at 128 tokens it still does at a thousand times that length, and RoPE does not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from camelid.claims.claim import Claim, Evidence, Form, Measurement, OnProgress, Verdict
from camelid.claims.figure import draw_curves
from camelid.claims.long_reading import logits_at_end, rotate_global_layers
from camelid.claims.recall_toy import NUM_QUERIES, VOCAB_SIZE, ToyLoader, recall_problem, training_batch
from camelid.core import Config
from camelid.core.run_dir import RunDir
from camelid.model import Llama4, Llama4Config, TextConfig, init_weights
from camelid.model.config import irope_layer_types
from camelid.train import OptimizerConfig, StepMetrics, TrainConfig, WarmupStableDecay, train
from camelid.train.losses import cross_entropy_sum

__all__ = ["IROPE_EXTRAPOLATES", "PositionArm", "build_model"]

Positions = Literal["irope", "rope-global", "rope-chunked", "rope-everywhere"]
TRAINED, CHUNK, FAR = 128, 32, 128 * 128
DOCUMENTS = 48
NUM_STRADDLING = 4  # documents of eight queries
EVAL_SEED = 999_983  # no training batch has it
MAX_LENGTH = 2**21


@dataclass(frozen=True)
class PositionArm(Config):
    """One way to know positions. `asked`: lengths, and how many documents of eight queries there."""

    positions: Positions
    temperature: bool
    steps: int
    asked: tuple[tuple[int, int], ...]
    loss_length: int


def build_model(arm: PositionArm) -> Llama4:
    """Four dense layers of width 64, the last one global; weights uninitialised."""
    is_unchunked = arm.positions == "rope-everywhere"
    is_irope_plan = arm.positions in ("irope", "rope-global")
    config = Llama4Config(
        TextConfig(
            vocab_size=VOCAB_SIZE,
            hidden_size=64,
            num_attention_heads=2,
            num_key_value_heads=2,
            head_dim=32,
            intermediate_size=128,
            intermediate_size_mlp=128,
            num_local_experts=1,
            layer_types=irope_layer_types(4) if is_irope_plan else ("chunked",) * 4,
            moe_layers=(),
            attention_chunk_size=MAX_LENGTH if is_unchunked else CHUNK,
            floor_scale=CHUNK,
            rope_theta=10_000.0,
            attn_temperature_tuning=arm.temperature,
            max_position_embeddings=MAX_LENGTH,
        )
    )
    return (
        rotate_global_layers(config)
        if arm.positions == "rope-global"
        else Llama4(config, absolute_positions=is_unchunked)
    )


# Tokens, and documents of eight queries each. Without chunks a document costs its length squared in every layer.
NEAR = ((128, 64), (256, 64), (512, 64), (1024, 32), (4096, 16), (16_384, 12))
FURTHER = (*NEAR, (131_072, 4))
LONGEST = (*FURTHER, (2**20, 2))
UNCHUNKED = ((128, 64), (256, 64), (512, 64), (1024, 32), (4096, 8), (16_384, 4))
SMOKE = ((128, 2), (256, 2))


def _arms(form: Form) -> dict[str, PositionArm]:
    is_full = form == "full"

    def arm(
        positions: Positions, asked: tuple[tuple[int, int], ...], temperature: bool = False
    ) -> PositionArm:
        asked, steps = (asked, 600) if is_full else (SMOKE, 4)
        return PositionArm(positions, temperature, steps, asked, FAR if is_full else 256)

    return {
        "iRoPE + temperature": arm("irope", LONGEST, temperature=True),
        "iRoPE, no temperature": arm("irope", LONGEST),
        "RoPE in the global layer": arm("rope-global", FURTHER, temperature=True),
        "RoPE, chunks only": arm("rope-chunked", FURTHER),
        "RoPE everywhere": arm("rope-everywhere", UNCHUNKED),
    }


def _measure(arm: PositionArm, seed: int, folder: Path, on_progress: OnProgress) -> Measurement:
    model = init_weights(build_model(arm), seed)
    _train(model, arm, seed, folder, on_progress)
    recall: list[tuple[float, float]] = []
    for length, documents in arm.asked:
        on_progress(0.9, f"recall at {length:,} tokens")
        recall.append((length, _recall(model, length, documents)))
    numbers = {f"recall at {length:,}": share for length, share in recall}
    straddling = min(FAR, arm.asked[-1][0])
    numbers[f"straddling, at {straddling:,}"] = _recall(
        model, straddling, NUM_STRADDLING, straddled_chunk=CHUNK
    )
    on_progress(0.95, f"loss by position to {arm.loss_length:,}")
    losses = _loss_by_position(model, arm.loss_length)
    return Measurement("", seed, "", numbers, {"recall": tuple(recall), "loss": tuple(losses)})


def _train(model: Llama4, arm: PositionArm, seed: int, folder: Path, on_progress: OnProgress) -> None:
    """Our own loop, fp32. KeyboardInterrupt when it was told to stop; another call goes on from there."""
    config = TrainConfig(
        steps=arm.steps,
        optimizer=OptimizerConfig(kind="adamw", lr=3e-3, weight_decay=0.01, betas=(0.9, 0.98)),
        schedule=WarmupStableDecay(warmup=0.1, decay=0.3, final=0.02),
        precision="fp32",
        checkpoint_every=50,
        keep_checkpoints=1,
    )
    run = RunDir.newest(folder) or RunDir.create(folder, "claim", "toy", arm)
    torch.manual_seed(seed)

    def show(metrics: StepMetrics) -> None:
        on_progress(0.9 * metrics.progress, f"step {metrics.step} of {arm.steps}, loss {metrics.loss:.3f}")

    train(
        model,
        lambda state: ToyLoader.at(DOCUMENTS, TRAINED, seed, state),
        config,
        run,
        model_files={},
        observers=[show],
    )
    if run.status()["status"] != "finished":
        raise KeyboardInterrupt


def _recall(model: Llama4, length: int, documents: int, straddled_chunk: int | None = None) -> float:
    """The share of values that are the most probable token after their key."""
    num_right = 0
    for number in range(documents):
        generator = torch.Generator().manual_seed(EVAL_SEED + number)
        ids, values = recall_problem(length, generator, straddled_chunk)
        logits = logits_at_end(model, ids, 2 * NUM_QUERIES)
        num_right += int((logits[::2].argmax(-1) == values).sum())
    return num_right / (documents * NUM_QUERIES)


@torch.inference_mode()
def _loss_by_position(model: Llama4, length: int, documents: int = 2) -> Sequence[tuple[float, float]]:
    """Nats per value in documents like those of training, but longer: mean up to each power of two from the last."""
    sums, counts = torch.zeros(length), torch.zeros(length)
    for number in range(documents):
        batch = training_batch(1, length, torch.Generator().manual_seed(EVAL_SEED + number))
        hidden = model(batch.token_ids).hidden
        head = model.language_model.head_weight
        _, per_token = cross_entropy_sum(hidden, head, batch.target_ids, batch.loss_weights)
        sums, counts = sums + per_token, counts + batch.loss_weights
    ends = [2**power for power in range(7, length.bit_length())]
    return [(float(end), _mean(sums, counts, 0 if end == ends[0] else end // 2, end)) for end in ends]


def _mean(sums: Tensor, counts: Tensor, start: int, end: int) -> float:
    return float(sums[start:end].sum() / counts[start:end].sum())


def _judge(evidence: Evidence) -> Verdict:
    far = max(x for x in evidence.points("RoPE everywhere", "recall"))
    ours = evidence.at("iRoPE + temperature", "recall", far)
    pair = evidence.at("RoPE in the global layer", "recall", far)
    longest = max(evidence.points("iRoPE + temperature", "recall"))
    at_longest = evidence.at("iRoPE + temperature", "recall", longest)
    measured = (
        f"At {far:,.0f} tokens, trained at {TRAINED}: iRoPE {_shares(ours)}, RoPE in the global layer {_shares(pair)} "
        f"(seed by seed). At {longest:,.0f} tokens iRoPE still recalls {_shares(at_longest)}."
    )
    numbers = {
        "iRoPE, lowest": min(ours),
        "RoPE, highest": max(pair),
        "at the longest, lowest": min(at_longest),
    }
    return Verdict(min(ours) >= 0.95 and max(pair) < 0.20, measured, numbers)


def _shares(values: Sequence[float]) -> str:
    return " / ".join(f"{value:.0%}" for value in values)


IROPE_EXTRAPOLATES = Claim(
    name="irope-extrapolates",
    statement="Trained at 128 tokens, iRoPE recalls facts over lengths at which RoPE has lost them.",
    setup=(
        "Associative recall: eight pairs of key and value once each in noise, eight of the keys asked at the end. "
        "Our Llama 4 with 4 layers of width 64 and chunks of 32 tokens, the last layer global. The minimal pair "
        "differs from it in one thing: its global layer has rotary positions, too. Two controls: chunks alone, which "
        "cannot carry a fact across a border, and RoPE everywhere without chunks. Pairs never straddle the border of "
        "a chunk; those that do are asked apart."
    ),
    rule=(
        "In every seed, at 128 times the trained length (16,384 tokens): iRoPE with temperature recalls at least 95 % "
        "and RoPE in the global layer less than 20 %. A million tokens are reported."
    ),
    arms=_arms,
    measure=_measure,
    judge=_judge,
    draw=lambda evidence: draw_curves(
        evidence,
        {"recall": "recalled", "loss": "nats per value"},
        "tokens",
        x_base=2,
        trained_at=TRAINED,
    ),
)
