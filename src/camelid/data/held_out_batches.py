"""The starter pack's held-out examples as packed batches: what a finished model is watched on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import get_args

from camelid.core.batch import Batch, ModelInput
from camelid.core.messages import Message
from camelid.data.example import Conversation, Document, Example
from camelid.data.questions import held_out
from camelid.data.questions.cast import Cast
from camelid.data.questions.held_out import SEED
from camelid.data.questions.motion import motion_problems
from camelid.data.questions.naming import naming_problems
from camelid.data.questions.problem import Problem
from camelid.data.questions.scenes import SceneKind, scene_problems
from camelid.data.questions.which_of import which_of_problems
from camelid.data.starter import StarterPack
from camelid.inputs import ChatFormat

__all__ = ["held_out_batches", "held_out_examples"]


def held_out_examples(pack: StarterPack, count: int) -> dict[str, list[Example]]:
    """At most `count` of each kind, by the name of the source that trains it; problems come with their answers."""
    known, unseen_style = Cast(pack.drawings("train")), Cast(pack.drawings_held_out_style())
    kinds: tuple[SceneKind, ...] = get_args(SceneKind)
    share = max(1, count // len(kinds))
    problems = {
        "naming": naming_problems(unseen_style, count, SEED, "en"),
        "which_of": which_of_problems(unseen_style, count, SEED),
        "scenes": [problem for kind in kinds for problem in scene_problems(known, share, kind, SEED)],
        "clips": held_out.clip_naming(pack, count),
        "motion": motion_problems(known, count, SEED),
        "glosses": held_out.glosses_held_out(pack, count),
    }
    examples: dict[str, list[Example]] = {name: [_told(p) for p in found] for name, found in problems.items()}
    examples["prose"] = list(held_out.held_out_prose(pack)[:count])
    return examples


def held_out_batches(
    pack: StarterPack, chat_format: ChatFormat, count: int, batch_tokens: int = 4096
) -> Iterator[Batch]:
    """`held_out_examples` packed in order, each input with the name of its source; a longer one is a batch alone."""
    packed: list[ModelInput] = []
    for name, examples in held_out_examples(pack, count).items():
        for example in examples:
            encoded = replace(_encode(example, chat_format), source=name)
            if packed and sum(map(len, packed)) + len(encoded) > batch_tokens:
                yield Batch.pack(packed)
                packed = []
            packed.append(encoded)
    if packed:
        yield Batch.pack(packed)


def _told(problem: Problem) -> Conversation:
    return Conversation((*problem.messages, Message.of("assistant", problem.answer)))


def _encode(example: Conversation | Document, chat_format: ChatFormat) -> ModelInput:
    if isinstance(example, Document):
        return chat_format.encode_document(example.parts)
    return chat_format.encode(example.messages)
