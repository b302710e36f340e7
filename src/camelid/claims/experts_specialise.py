"""Claim: experts share out the work by what is shown and by what is asked, without being told to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from camelid.checkpoint import load_model
from camelid.claims.claim import Claim, Evidence, Form, Measurement, OnProgress, Verdict
from camelid.claims.figure import draw_curves
from camelid.core import Batch, Config
from camelid.core.run_dir import RunDir
from camelid.data import NamingConfig, StarterPack, StarterWeights
from camelid.data.held_out_batches import held_out_batches
from camelid.inputs import ChatFormat
from camelid.model import Llama4, VisionConfig, init_weights, preset
from camelid.stages.pretrain import DataConfig, PretrainConfig, chat_format_for, pretrain
from camelid.train import BalanceConfig, OptimizerConfig, StepMetrics, TrainConfig, WarmupStableDecay
from camelid.train.routing_trace import trace_routing
from camelid.train.specialisation import Specialisation, measure

__all__ = ["EXPERTS_SPECIALISE", "BalanceArm"]

AUX, BIAS = "auxiliary loss", "loss-free bias"
# Equal parts of what is seen and what is read, so that neither is too rare for experts of its own.
WEIGHTS = StarterWeights(
    naming=0.3, which_of=0.05, scenes=0.25, clips=0.1, motion=0.05, prose=0.1, glosses=0.15, words=0.0
)


@dataclass(frozen=True)
class BalanceArm(Config):
    """A pretraining run, whole, and how many held-out examples of each source it is watched on."""

    run: PretrainConfig
    num_examples: int = field(default=100)


def _arms(form: Form) -> dict[str, BalanceArm]:
    model = preset("nano-scout")
    steps, batch_tokens, share, num_examples = 600, 4096, 0.25, 100
    if form == "smoke":
        text = model.text.replace(
            hidden_size=32, num_attention_heads=2, num_key_value_heads=1, head_dim=16, intermediate_size=16
        )
        vision = VisionConfig(
            hidden_size=16, num_hidden_layers=1, num_attention_heads=2, image_size=48, patch_size=8, projector_dim=16,
            max_tiles=1,
        )  # fmt: skip
        model = model.replace(text=text, vision=vision)
        steps, batch_tokens, share, num_examples = 2, 512, 0.03, 4
    return {
        name: BalanceArm(
            PretrainConfig(
                preset="nano-scout",
                model=model,
                train=TrainConfig(
                    steps=steps,
                    optimizer=OptimizerConfig(lr=3e-3),
                    schedule=WarmupStableDecay(warmup=0.02, decay=0.6),
                    balance=balance,
                    checkpoint_every=max(1, steps // 6),
                    keep_checkpoints=1,
                ),
                data=DataConfig(
                    starter=WEIGHTS,
                    naming=NamingConfig(
                        english=1.0, documents=0.0, text_first=0.0, name_first=0.92, one_turn=1.0
                    ),
                    concept_share=share,
                    batch_tokens=batch_tokens,
                ),
            ),
            num_examples,
        )
        for name, balance in ((AUX, BalanceConfig()), (BIAS, BalanceConfig(kind="loss_free_bias")))
    }


def _measure(arm: BalanceArm, seed: int, folder: Path, on_progress: OnProgress) -> Measurement:
    config = arm.run.replace(seed=seed)
    chat_format = chat_format_for(config)
    on_progress(0.0, "fresh weights")
    batches = _held_out(config.data.concept_share, arm.num_examples, chat_format)
    fresh = measure(trace_routing(init_weights(Llama4(config.model), seed).eval(), batches))

    def show(metrics: StepMetrics) -> None:
        on_progress(
            0.9 * metrics.progress, f"step {metrics.step} of {config.train.steps}, loss {metrics.loss:.3f}"
        )

    run = pretrain(config, run_root=folder, resume=RunDir.newest(folder), observers=[show])
    checkpoint = run.latest_checkpoint()
    if run.status()["status"] != "finished" or checkpoint is None:
        raise KeyboardInterrupt
    on_progress(0.9, "trained weights")
    trained = measure(trace_routing(load_model(checkpoint), batches))
    numbers, curves = _numbers(trained), _curves(trained)
    numbers |= {f"{name}, fresh": value for name, value in _numbers(fresh).items()}
    curves |= {f"{name}, fresh": points for name, points in _curves(fresh).items()}
    return Measurement("", seed, "", numbers, curves)


def _held_out(concept_share: float, count: int, chat_format: ChatFormat) -> list[Batch]:
    return list(held_out_batches(StarterPack.open(concept_share=concept_share), chat_format, count))


def _by_layer(report: Specialisation) -> dict[str, list[float]]:
    """Shares of what there is to know. A source has one modality, so what it tells beyond that is the difference
    of two informations (the chain rule): I(expert; source | modality) / H(source | modality).
    """
    modality, source, patch = [], [], []
    for layer in report.layers:
        of_source, of_modality = layer.information["domain"], layer.information["modality"]
        told = of_source.nats - of_source.shuffled_nats - (of_modality.nats - of_modality.shuffled_nats)
        modality.append(of_modality.of_attribute)
        patch.append(layer.information["patch"].of_attribute)
        source.append(told / (of_source.attribute_nats - of_modality.attribute_nats))
    return {"modality": modality, "source within modality": source, "patch or text": patch}


def _numbers(report: Specialisation) -> dict[str, float]:
    numbers = {name: max(values) for name, values in _by_layer(report).items()}
    return numbers | {
        "dead experts": float(sum(layer.num_dead for layer in report.layers)),
        "MaxVio": max(layer.max_vio for layer in report.layers),
    }


def _curves(report: Specialisation) -> dict[str, tuple[tuple[float, float], ...]]:
    layers = [float(layer.layer) for layer in report.layers]
    return {name: tuple(zip(layers, values, strict=True)) for name, values in _by_layer(report).items()}


def _judge(evidence: Evidence) -> Verdict:
    modality, source = evidence.of(AUX, "modality"), evidence.of(AUX, "source within modality")
    fresh_modality = evidence.of(AUX, "modality, fresh")
    fresh_source = evidence.of(AUX, "source within modality, fresh")
    grown = [
        now - before
        for pair in ((modality, fresh_modality), (source, fresh_source))
        for now, before in zip(*pair, strict=True)
    ]
    measured = (
        f"In the layer that tells most, an expert tells {_shares(modality)} of the modality (fresh weights: "
        f"{_shares(fresh_modality)}) and {_shares(source)} of the source within it "
        f"({_shares(fresh_source)}), seed by seed."
    )
    numbers = {
        "modality, lowest": min(modality),
        "source, lowest": min(source),
        "smallest growth": min(grown),
    }
    return Verdict(min(modality) >= 0.3 and min(source) >= 0.05 and min(grown) > 0, measured, numbers)


def _shares(values: Sequence[float]) -> str:
    return " / ".join(f"{value:.0%}" for value in values)


def _draw(evidence: Evidence) -> str:
    names = ("modality", "source within modality", "patch or text")
    return draw_curves(evidence, {name: f"told of {name}" for name in names}, "layer")


EXPERTS_SPECIALISE = Claim(
    name="experts-specialise",
    statement="Experts specialise by modality and by topic, though nothing tells them to.",
    setup=(
        "nano Scout (16 experts in each of 4 layers) trained for 600 steps of 4,096 tokens on the starter pack: "
        "drawings, scenes, clips, prose and glosses, a quarter of the concepts. One pass over held-out examples, a "
        "hundred of each source: mutual information of a token's expert with its document's modality (text, image, "
        "video) and with the source within that modality, over the entropy of either, less what shuffled documents "
        "give. Two arms: the auxiliary loss, which decides, and the loss-free bias. Fresh weights are measured too: "
        "random routers tell tokens apart as well. The pilot was the shipped model: 0.41 and 0.08."
    ),
    rule=(
        "In every seed, with the auxiliary loss and in the layer that tells most: at least 0.30 of the modality and "
        "0.05 of the source within it, and more of both than with fresh weights."
    ),
    arms=_arms,
    measure=_measure,
    judge=_judge,
    draw=_draw,
)
