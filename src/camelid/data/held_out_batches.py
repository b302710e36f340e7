"""The starter pack's held-out examples as packed batches: what a finished model is watched on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from camelid.core.batch import Batch, ModelInput
from camelid.core.messages import Message
from camelid.data.example import Conversation, Document, Example
from camelid.data.questions import held_out
from camelid.data.questions.problem import Problem
from camelid.data.starter import StarterPack
from camelid.inputs import ChatFormat

__all__ = ["held_out_batches", "held_out_examples"]


def held_out_examples(pack: StarterPack, count: int) -> dict[str, list[Example]]:
    """At most `count` of each kind, by the name of the source that trains it; problems come with their answers."""
    scenes = [
        problem
        for kind, share in (("count", 4), ("colour", 4), ("where", 4), ("relation", 4))
        for problem in held_out.scenes(pack, max(1, count // share), kind)  # type: ignore[arg-type]
    ]
    problems = {
        "naming": held_out.naming_held_out_style(pack, count),
        "which_of": held_out.which_of_held_out_style(pack, count),
        "scenes": scenes,
        "clips": held_out.clip_naming(pack, count),
        "motion": held_out.motion_scenes(pack, count),
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
