"""Losses on what was held out: answers about pictures, and prose."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from camelid.core import Batch, Message, ModelInput
from camelid.data.questions.held_out import held_out_prose
from camelid.data.questions.problem import Problem
from camelid.data.starter import StarterPack
from camelid.inputs import ChatFormat
from camelid.model import Llama4

__all__ = ["answer_inputs", "calibration_error", "mean_nats", "prose_inputs"]

NUM_BINS = 15
AT_ONCE = 16  # inputs in one forward pass


def answer_inputs(chat_format: ChatFormat, problems: Sequence[Problem]) -> list[ModelInput]:
    """Problems with their right answers, the loss on the answers."""
    return [
        chat_format.encode([*problem.messages, Message.of("assistant", problem.answer)])
        for problem in problems
    ]


def prose_inputs(chat_format: ChatFormat, pack: StarterPack, count: int) -> list[ModelInput]:
    """Pages of chapters that were never seen, spread over all of them."""
    pages = held_out_prose(pack)
    return [chat_format.encode_document(page.parts) for page in pages[:: max(1, len(pages) // count)][:count]]


@torch.inference_mode()
def _judged(
    model: Llama4, inputs: Sequence[ModelInput]
) -> tuple[Float[Tensor, "valid"], Float[Tensor, "valid"], Float[Tensor, "valid"]]:
    """Of each token that counts: its nats, the highest probability there, and whether that token was the one."""
    nats, confidence, is_right = [], [], []
    for start in range(0, len(inputs), AT_ONCE):
        batch = Batch.pack(inputs[start : start + AT_ONCE]).to(next(model.parameters()).device)
        hidden = model(batch.token_ids, batch.document_lengths, batch.tiles, batch.patch_positions).hidden
        rows = batch.loss_weights.nonzero()[:, 0]
        logits, targets = model.logits(hidden[rows]).float(), batch.target_ids[rows]
        nats.append(F.cross_entropy(logits, targets, reduction="none").cpu())
        best = logits.softmax(-1).max(-1)
        confidence.append(best.values.cpu())
        is_right.append((best.indices == targets).float().cpu())
    return torch.cat(nats), torch.cat(confidence), torch.cat(is_right)


def mean_nats(model: Llama4, inputs: Sequence[ModelInput]) -> float:
    """Hard cross-entropy: nats per token that counts."""
    return float(_judged(model, inputs)[0].mean())


def calibration_error(model: Llama4, inputs: Sequence[ModelInput]) -> float:
    """Expected calibration error of the most probable token: mean gap of confidence and accuracy over 15 bins."""
    _, confidence, is_right = _judged(model, inputs)
    bins = (confidence * NUM_BINS).long().clamp(max=NUM_BINS - 1)
    gaps = torch.zeros(NUM_BINS).index_add_(0, bins, confidence - is_right)
    return float(gaps.abs().sum() / len(confidence))
