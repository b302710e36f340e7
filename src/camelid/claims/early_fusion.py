"""Claim: pictures from the first step are worth more than pictures bolted on, at equal compute.

The arms are named by what they do, because "early fusion" means two things: Meta's has an encoder that is trained
jointly from the start, Apple's (2504.07951) has no encoder at all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from importlib import resources
from itertools import islice
from pathlib import Path
from typing import Literal

from camelid.claims.claim import Claim, Evidence, Form, Measurement, OnProgress, Verdict
from camelid.claims.figure import draw_bars
from camelid.claims.held_out_losses import answer_inputs, mean_nats, prose_inputs
from camelid.core import Config
from camelid.core.run_dir import RunDir
from camelid.data import BatchLoader, NamingConfig, StarterPack, StarterWeights
from camelid.data.questions.held_out import naming_held_out_style
from camelid.eval import judge
from camelid.infer import Generator
from camelid.inputs import ChatFormat, Tokenizer
from camelid.model import Llama4, Llama4Config, preset
from camelid.model.flops import training_flops
from camelid.recipes.nano import GENTLE
from camelid.stages.pretrain import DataConfig, PretrainConfig, Pretraining
from camelid.train import OptimizerConfig, StepMetrics, TrainConfig, WarmupStableDecay
from camelid.train.precision import Precision

__all__ = ["EARLY_FUSION", "FusionArm"]

Kind = Literal["joint-encoder", "bolt-on", "encoder-free"]
KEPT_TEXT = 0.2  # of the bolt-on arm's text comes again with its pictures, against forgetting
ENCODER_PART = 0.5  # of the bolt-on arm's compute for pictures trains its encoder apart
PICTURES = ("naming", "which_of", "scenes", "clips", "motion")
TEXTS = ("prose", "glosses", "words")
STARTER_TOKENIZER = Path(str(resources.files("camelid.starter") / "tokenizer.model"))
TOLERANCE = 0.02  # between the arms' compute


@dataclass(frozen=True)
class FusionArm(Config):
    """How pictures come in, and what may be spent: `flops` over all stages."""

    kind: Kind
    flops: float
    encoder_layers: int
    width: int
    batch_tokens: int
    concept_share: float
    num_problems: int
    num_sampled: int  # batches from which a stage's number of steps is foreseen
    precision: Precision


WEIGHTS = StarterWeights(
    naming=0.75, which_of=0, scenes=0, clips=0, motion=0, prose=0.2, glosses=0.03, words=0.02
)


def _arms(form: Form) -> dict[str, FusionArm]:
    arm = FusionArm("joint-encoder", 6e13, 6, 192, 4096, 0.125, 200, 24, "auto")
    if form == "smoke":
        arm = FusionArm("joint-encoder", 1.5e9, 1, 48, 256, 0.02, 2, 2, "fp32")
    return {
        "A joint-encoder": arm,
        "B bolt-on": arm.replace(kind="bolt-on"),
        "C encoder-free": arm.replace(kind="encoder-free"),
    }


def _model(arm: FusionArm) -> Llama4Config:
    """Nano Scout; without encoder layers what is left of it is one linear patch layer and the adapter."""
    nano = preset("nano-scout")
    assert nano.vision is not None
    layers = 0 if arm.kind == "encoder-free" else arm.encoder_layers
    return nano.replace(
        text=nano.text.replace(hidden_size=arm.width, max_position_embeddings=8192),
        vision=nano.vision.replace(num_hidden_layers=layers, hidden_size=arm.width),
    )


def _weights(texts: float, pictures: float) -> StarterWeights:
    factors = dict.fromkeys(TEXTS, texts) | dict.fromkeys(PICTURES, pictures)
    return StarterWeights(**{name: factors[name] * value for name, value in WEIGHTS.to_dict().items()})


def _measure(arm: FusionArm, seed: int, folder: Path, on_progress: OnProgress) -> Measurement:
    stages = _Stages(arm, seed, folder, on_progress)
    config = _model(arm)
    if arm.kind == "bolt-on":
        texts = stages.sampled(stages.opened("both", config, _weights(1, 1))).texts_of_flops
        language = stages.run("language", config, _weights(1, 0), (1 - KEPT_TEXT) * texts * arm.flops)
        captioner = config.replace(text=config.text.replace(layer_types=("global",), moe_layers=()))
        encoder = stages.run("encoder", captioner, _weights(0, 1), ENCODER_PART * (1 - texts) * arm.flops)

        def connect(model: Llama4) -> None:
            model.language_model.load_state_dict(language.language_model.state_dict())
            model.vision_model.load_state_dict(encoder.vision_model.state_dict())

        rest = arm.flops - stages.spent
        weights = _weights(KEPT_TEXT, 1 - ENCODER_PART)
        model = stages.run("connected", config, weights, rest, connect)
    else:
        model = stages.run("joint", config, _weights(1, 1), arm.flops)
    on_progress(0.95, "asking")
    pack = StarterPack.open(concept_share=arm.concept_share)
    chat_format = ChatFormat.for_model(stages.tokenizer, config.vision)
    problems = naming_held_out_style(pack, arm.num_problems)
    model.eval()
    score = judge(Generator(model, chat_format), "name", problems)
    numbers = {
        "caption nats": mean_nats(model, answer_inputs(chat_format, problems)),
        "name accuracy": score.accuracy,
        "blind accuracy": score.blind_accuracy,
        "text nats": mean_nats(model, prose_inputs(chat_format, pack, arm.num_problems)),
        "FLOPs": stages.spent,
        "text tokens": float(stages.num_text_tokens),
        "pictures": float(stages.num_pictures),
    }
    return Measurement("", seed, "", numbers)


class _Stages:
    """The stages of one arm, each a run of its own, and what they cost together."""

    def __init__(self, arm: FusionArm, seed: int, folder: Path, on_progress: OnProgress) -> None:
        self.arm, self.seed, self.folder, self.on_progress = arm, seed, folder, on_progress
        self.tokenizer = Tokenizer.from_file(STARTER_TOKENIZER, vocab_size=_model(arm).text.vocab_size)
        self.spent, self.num_text_tokens, self.num_pictures = 0.0, 0, 0

    def opened(self, name: str, model: Llama4Config, weights: StarterWeights) -> Pretraining:
        """A stage with its data open; how long it is, is not known yet."""
        train = TrainConfig(
            1,
            optimizer=OptimizerConfig(lr=3e-3),
            schedule=WarmupStableDecay(warmup=0.03, decay=0.5),
            checkpoint_every=100,
            keep_checkpoints=1,
            precision=self.arm.precision,
        )
        data = DataConfig(
            starter=weights,
            concept_share=self.arm.concept_share,
            augment=GENTLE,
            naming=NamingConfig(english=1.0, documents=0.0, text_first=0.0, one_turn=1.0),
            batch_tokens=self.arm.batch_tokens,
            max_document_tokens=min(512, self.arm.batch_tokens),
        )
        return Pretraining.prepare(PretrainConfig(name, model, train, data, seed=self.seed))

    def run(
        self,
        name: str,
        model_config: Llama4Config,
        weights: StarterWeights,
        flops: float,
        begin: Callable[[Llama4], None] = lambda model: None,
    ) -> Llama4:
        """Trains for about so many FLOPs, or goes on; KeyboardInterrupt when it was told to stop."""
        pretraining = self.opened(name, model_config, weights)
        foreseen = self.sampled(pretraining)
        steps = max(1, round(flops / foreseen.flops_per_batch))
        config = pretraining.config.replace(train=pretraining.config.train.replace(steps=steps))
        pretraining = replace(pretraining, config=config)
        model = pretraining.fresh_model()
        begin(model)
        root = self.folder / name
        run = RunDir.newest(root) or RunDir.create(root, "claim", name, config)

        def show(metrics: StepMetrics) -> None:
            done = (self.spent + metrics.progress * flops) / self.arm.flops
            self.on_progress(min(0.95, done), f"{name}, step {metrics.step}, loss {metrics.loss:.3f}")

        pretraining.train(model, run, [show])
        if run.status()["status"] != "finished":
            raise KeyboardInterrupt
        rows = run.metrics()
        tokens, tiles = (sum(row[key] for row in rows) for key in ("num_tokens", "num_tiles"))
        self.spent += training_flops(model_config, tokens, tiles)
        self.num_pictures += tiles
        self.num_text_tokens += round(tokens * foreseen.texts_of_tokens)
        return model

    def sampled(self, pretraining: Pretraining) -> _Foreseen:
        """What the first batches cost, and which part of that is texts without pictures."""
        config, data = pretraining.config, pretraining.config.data
        loader = BatchLoader(
            pretraining.mixture,
            pretraining.chat_format,
            data.batch_tokens,
            config.seed,
            data.max_document_tokens,
            prefetch_depth=0,
        )
        texts, tokens, tiles = 0, 0, 0
        for batch, _ in islice(loader, self.arm.num_sampled):
            pairs = zip(batch.document_lengths, batch.document_modalities, strict=True)
            texts += sum(length for length, modality in pairs if modality == "text")
            tokens, tiles = tokens + batch.num_tokens, tiles + batch.tiles.shape[0]
        total = training_flops(config.model, tokens, tiles)
        in_texts = training_flops(config.model, texts, 0)
        return _Foreseen(total / self.arm.num_sampled, in_texts / total, texts / tokens)


@dataclass(frozen=True)
class _Foreseen:
    flops_per_batch: float
    texts_of_flops: float
    texts_of_tokens: float


def _judge(evidence: Evidence) -> Verdict:
    joint, bolted = "A joint-encoder", "B bolt-on"
    numbers: Mapping[str, tuple[list[float], list[float]]] = {
        name: (list(evidence.of(joint, name)), list(evidence.of(bolted, name)))
        for name in ("caption nats", "name accuracy", "text nats", "FLOPs")
    }
    caption = max(a - b for a, b in zip(*numbers["caption nats"], strict=True))
    accuracy = min(a - b for a, b in zip(*numbers["name accuracy"], strict=True))
    text = max(a / b - 1 for a, b in zip(*numbers["text nats"], strict=True))
    spread = max(abs(a / b - 1) for a, b in zip(*numbers["FLOPs"], strict=True))
    free = evidence.of("C encoder-free", "name accuracy")
    measured = (
        f"In the worst seed A has {caption:+.3f} caption nats, {accuracy:+.1%} names and {text:+.1%} text loss "
        f"against B, their compute {spread:.1%} apart. "
        f"Without an encoder: names {' / '.join(f'{share:.1%}' for share in free)}."
    )
    is_better = caption <= 0 and accuracy >= 0 and text <= 0.01 and spread <= TOLERANCE
    return Verdict(
        is_better, measured, {"caption": caption, "accuracy": accuracy, "text": text, "compute": spread}
    )


EARLY_FUSION = Claim(
    name="early-fusion",
    statement="At equal compute, pictures from the first step beat pictures that are connected to a finished model.",
    setup=(
        "Nano Scout on the starter pack, names of drawings asked for in a style that was never seen. "
        "A: an encoder trained jointly from step 0 (Llama 4's layout: early fusion to Meta, late to Apple). "
        "B: the language model on text first, the encoder apart under a captioner of one layer, then both connected "
        "and trained together, with a fifth of the text again; its stages count. C: no encoder layers, one linear "
        "patch layer and the adapter (Apple's early fusion). Equal training FLOPs, equal text tokens in A and B; B, "
        "whose encoder's own training is cheaper, sees more pictures. No weights from outside."
    ),
    rule=(
        "In every seed A has no more caption nats and no fewer right names in the held-out style than B, and its text "
        "loss is at most 1 % higher, with compute within 2 %. C is reported."
    ),
    arms=_arms,
    measure=_measure,
    judge=_judge,
    draw=lambda evidence: draw_bars(
        evidence,
        {"name accuracy": "names right", "caption nats": "caption nats", "text nats": "text nats"},
    ),
)
