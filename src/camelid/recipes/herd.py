"""Whole herds: numbers, no logic."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

from camelid.data import AugmentConfig, StarterWeights
from camelid.herd import OWN_TEACHER, EvaluationConfig, HerdConfig
from camelid.model import Llama4Config, LoraConfig, preset
from camelid.model.config import irope_layer_types
from camelid.recipes.long_context import nano_long_context
from camelid.recipes.nano import ENGLISH_NAMES, GENTLE, nano_herd
from camelid.recipes.post_training import nano_dpo_chatty, nano_dpo_instruct, nano_rl
from camelid.stages.distill import CodistillConfig, Student
from camelid.stages.dpo import DpoConfig
from camelid.stages.long_context import LengthTests, LongContextConfig, LongWeights
from camelid.stages.pretrain import DataConfig, PretrainConfig
from camelid.stages.rl import RlConfig
from camelid.stages.sft import SftConfig
from camelid.train import OptimizerConfig, TrainConfig, WarmupStableDecay
from camelid.train.preference_loss import PreferenceConfig

__all__ = ["HERD_RECIPES", "behemoth", "demo", "maverick", "nano", "scout", "small", "smoke"]

VARIANTS = (nano_dpo_instruct().replace(base=""), nano_dpo_chatty().replace(base=""))
MICRO_SHARE = 0.02  # two dozen concepts
ASKED = ("count", "colour", "relation", "name")
QUESTIONS = StarterWeights(
    naming=0.5, which_of=0, scenes=0.3, clips=0.1, motion=0.05, prose=0.05, glosses=0, words=0
)


def demo() -> HerdConfig:
    """The smallest herd that can do something: micro members, two dozen concepts, ten minutes on two CPU cores."""
    starter = StarterWeights(
        naming=0.3, which_of=0, scenes=0.6, clips=0.02, motion=0.06, prose=0.02, glosses=0, words=0
    )
    data = DataConfig(
        starter=starter,
        augment=GENTLE,
        naming=ENGLISH_NAMES,
        concept_share=MICRO_SHARE,
        batch_tokens=2048,
    )
    learning = _steps(240, 4e-3, kind="muon")
    teacher, *students = _micro().items()
    lora = LoraConfig(rank=8, alpha=16.0)
    return HerdConfig(
        name="demo",
        pretraining=CodistillConfig(
            PretrainConfig(*teacher, learning, data),
            tuple(Student(*student, learning) for student in students),
            segment_steps=60,
        ),
        long_context=LongContextConfig(
            "",
            length=1024,
            weights=LongWeights(short=0.6),
            starter=starter,
            concept_share=MICRO_SHARE,
            tests=LengthTests((512, 1024), 4, 2),
            train=_steps(12, 3e-4),
        ),
        sft=SftConfig(
            "",
            (),
            tasks=ASKED,
            concept_share=MICRO_SHARE,
            lora=lora,
            train=_steps(60, 1e-3),
            batch_tokens=2048,
            max_document_tokens=256,
        ),
        rl=RlConfig(
            "",
            ASKED,
            concept_share=MICRO_SHARE,
            lora=lora,
            train=_steps(12, 5e-4),
            prompts_per_step=8,
            samples_per_prompt=8,
            max_answer_tokens=12,
            teacher=OWN_TEACHER,
            max_gap_share=0.5,
            num_held_out=24,
        ),
        variants=(
            DpoConfig(
                "",
                variant="instruct",
                num_pairs=160,
                lora=lora,
                loss=PreferenceConfig(beta=0.1, sft_weight=0.1),
                train=_steps(20, 3e-4),
                pairs_per_step=8,
                num_held_out=24,
                concept_share=MICRO_SHARE,
            ),
            DpoConfig(
                "",
                variant="chatty",
                num_pairs=480,
                lora=None,  # words that it has never said are much to learn in sixty steps
                loss=PreferenceConfig(beta=0.1, sft_weight=1.0),
                train=_steps(60, 1e-3),
                pairs_per_step=8,
                num_held_out=24,
                concept_share=MICRO_SHARE,
            ),
        ),
        evaluation=EvaluationConfig(
            num_problems=20,
            kinds=("colour-new-scene", "name-unseen-style", "count-new-scene", "relation-new-scene"),
            num_texts=4,
            concept_share=MICRO_SHARE,
        ),
    )


def smoke() -> HerdConfig:
    """Everything there is, on pico members, in a minute or two: shows that all works, and teaches next to nothing."""
    data = DataConfig(
        starter=QUESTIONS,
        augment=AugmentConfig(),
        concept_share=0.05,
        batch_tokens=512,
        max_document_tokens=256,
    )
    members = _pico()
    teacher, *students = [
        (name, model, _steps(24, 1e-2 if number else 7e-3))
        for number, (name, model) in enumerate(members.items())
    ]
    return HerdConfig(
        name="smoke",
        pretraining=CodistillConfig(
            PretrainConfig(*teacher, data=data), tuple(Student(*one) for one in students), segment_steps=12
        ),
        long_context=LongContextConfig(
            "", length=512, starter=QUESTIONS, tests=LengthTests((256, 512), 2, 1), train=_steps(4, 1e-3)
        ),
        sft=SftConfig(
            "",
            (),
            tasks=("count", "where"),
            lora=LoraConfig(rank=4, alpha=8.0),
            train=_steps(8, 3e-3),
            batch_tokens=512,
            max_document_tokens=256,
        ),
        rl=RlConfig(
            "",
            ("count", "where"),
            lora=LoraConfig(rank=4, alpha=8.0),
            train=_steps(3, 1e-3),
            prompts_per_step=4,
            samples_per_prompt=4,
            max_answer_tokens=8,
            teacher=OWN_TEACHER,
            max_gap_share=0.5,
            num_held_out=4,
        ),
        variants=tuple(
            DpoConfig(
                "",
                variant=variant,
                num_pairs=16,
                lora=LoraConfig(rank=4, alpha=8.0),
                train=_steps(4, 2e-3),
                pairs_per_step=4,
                num_held_out=4,
                max_answer_tokens=8,
            )
            for variant in ("instruct", "chatty")
        ),
        evaluation=EvaluationConfig(
            num_problems=4, kinds=("name-unseen-style", "count-new-scene", "motion-new-clip"), num_texts=2
        ),
    )


def nano() -> HerdConfig:
    """The nano members, with the numbers of the single recipes: reckoned at nine hours of two CPU cores."""
    return HerdConfig(
        name="nano",
        pretraining=nano_herd(),
        long_context=nano_long_context(""),
        sft=SftConfig("", (), tasks=("tools", "where", "motion", "count")),
        rl=nano_rl().replace(base="", teacher=OWN_TEACHER, teacher_weight=0.1),
        variants=VARIANTS,
    )


def small() -> HerdConfig:
    """Mini members with eyes, for one GPU: the nano mixture, 60,000 steps with five times the tokens."""
    base = nano()
    teacher = base.pretraining.teacher
    train = teacher.train.replace(steps=60_000, optimizer=OptimizerConfig(lr=1e-3), checkpoint_every=2000)
    students = tuple(
        Student(name, _with_starter_vocabulary(name), train) for name in ("mini-scout", "mini-maverick")
    )
    scout = students[0].model
    wide = scout.text.replace(hidden_size=1024, num_attention_heads=16, intermediate_size=2048)
    return base.replace(
        name="small",
        pretraining=CodistillConfig(
            teacher.replace(
                preset="mini-behemoth",
                model=scout.replace(text=wide),
                train=train.replace(optimizer=OptimizerConfig(lr=7e-4)),
                data=teacher.data.replace(batch_tokens=32_768),
            ),
            students,
            segment_steps=2000,
        ),
        long_context=nano_long_context("").replace(length=32_768),
    )


def scout() -> HerdConfig:
    """Behemoth teaches Scout; for a cluster. Thirty trillion tokens, more than which Meta names for its mixture."""
    return _released("scout", ("scout",))


def maverick() -> HerdConfig:
    """Behemoth teaches Maverick; for a cluster."""
    return _released("maverick", ("maverick",))


def behemoth() -> HerdConfig:
    """Behemoth teaches Scout and Maverick in one job; for a cluster."""
    return _released("behemoth", ("scout", "maverick"))


def _released(name: str, students: tuple[str, ...]) -> HerdConfig:
    """900,000 steps of 4,096 batches of 8,192 tokens: 30.2 trillion. `data/` and `tokenizer.model` are the user's."""
    train = TrainConfig(
        steps=900_000,
        optimizer=OptimizerConfig(lr=4e-4),
        schedule=WarmupStableDecay(warmup=0.002, decay=0.2),
        micro_batches=4096,
        checkpoint_every=1000,
    )
    data = DataConfig(starter=None, paths=("data",), batch_tokens=8192, max_document_tokens=8192)
    later = TrainConfig(steps=2000, optimizer=OptimizerConfig(kind="adamw", lr=1e-5, weight_decay=0.0))
    return HerdConfig(
        name=name,
        pretraining=CodistillConfig(
            PretrainConfig("behemoth", preset("behemoth"), train, data, tokenizer="tokenizer.model"),
            tuple(Student(one, preset(one), train) for one in students),
            segment_steps=1000,
        ),
        long_context=LongContextConfig("", length=262_144, paths=("data/long",), tests=None, train=later),
        sft=SftConfig("", ("data/sft.jsonl",), lora=None, train=later),
        rl=RlConfig("", ("tools",), lora=None, train=later.replace(precision="fp32"), teacher=OWN_TEACHER),
        variants=tuple(one.replace(lora=None, train=later) for one in VARIANTS),
    )


def _pico() -> dict[str, Llama4Config]:
    """Half a million weights or less beside the vocabulary's, every kind of layer."""
    scout = _scout(width=48, head_dim=16, num_experts=4, vision_layers=2)
    wide = scout.text.replace(
        hidden_size=64,
        num_attention_heads=4,
        num_key_value_heads=2,
        layer_types=irope_layer_types(8),
        moe_layers=tuple(range(8)),
    )
    return {
        "pico-behemoth": scout.replace(text=wide),
        "pico-scout": scout,
        "pico-maverick": _maverick(scout),
    }


def _micro() -> dict[str, Llama4Config]:
    """Two to four million weights: what two cores teach something in minutes."""
    scout = _scout(width=96, head_dim=32, num_experts=8, vision_layers=3)
    wide = _scout(width=128, head_dim=32, num_experts=8, vision_layers=4)
    return {"micro-behemoth": wide, "micro-scout": scout, "micro-maverick": _maverick(scout)}


def _scout(width: int, head_dim: int, num_experts: int, vision_layers: int) -> Llama4Config:
    """Nano Scout, smaller: four layers, one key/value head, experts two thirds of the width."""
    base = preset("nano-scout")
    assert base.vision is not None
    heads, expert_width = width // head_dim, width * 2 // 3 // 16 * 16
    text = base.text.replace(
        hidden_size=width,
        num_attention_heads=heads,
        num_key_value_heads=1,
        head_dim=head_dim,
        intermediate_size=expert_width,
        intermediate_size_mlp=2 * expert_width,
        num_local_experts=num_experts,
        attention_chunk_size=128,
        floor_scale=128,
    )
    vision = base.vision.replace(
        hidden_size=width, num_hidden_layers=vision_layers, num_attention_heads=heads, projector_dim=width
    )
    return Llama4Config(text, vision)


def _maverick(scout: Llama4Config) -> Llama4Config:
    """Twice as many experts, in every second layer, no QK norm."""
    text = scout.text.replace(
        num_local_experts=2 * scout.text.num_local_experts, moe_layers=(1, 3), use_qk_norm=False
    )
    return scout.replace(text=text)


def _steps(steps: int, lr: float, kind: Literal["adamw", "muon"] = "adamw") -> TrainConfig:
    """In fp32: a CPU without bf16 instructions is several times slower in bf16."""
    return TrainConfig(
        steps,
        OptimizerConfig(kind=kind, lr=lr, weight_decay=0.0),
        WarmupStableDecay(warmup=0.1, decay=0.5),
        precision="fp32",
        checkpoint_every=10,
        keep_checkpoints=1,
    )


def _with_starter_vocabulary(name: str) -> Llama4Config:
    """A mini member with a nano member's eyes and words."""
    model = preset(name)
    text = model.text.replace(vocab_size=preset("nano-scout").text.vocab_size)
    return Llama4Config(text, preset("nano-scout").vision)


HERD_RECIPES: Mapping[str, Callable[[], HerdConfig]] = {
    "demo": demo,
    "smoke": smoke,
    "nano": nano,
    "small": small,
    "scout": scout,
    "maverick": maverick,
    "behemoth": behemoth,
}
