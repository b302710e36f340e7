"""Packing by hand: whose successor is whose, where the patches went, and who is how long."""

from __future__ import annotations

from dataclasses import replace

import torch

from camelid.core import MODALITIES, Batch, Modality, ModelInput

SIZE = 4


def document(
    ids: list[int], weights: list[float], patches: tuple[int, ...] = (), modality: Modality = "text"
) -> ModelInput:
    """A document with one tile for every two patch tokens, filled with its first token."""
    return ModelInput(
        token_ids=torch.tensor(ids),
        loss_weights=torch.tensor(weights),
        tiles=torch.full((len(patches) // 2, 3, SIZE, SIZE), ids[0], dtype=torch.uint8),
        patch_positions=torch.tensor(patches, dtype=torch.long),
        modality=modality,
    )


DOCUMENTS = [
    document([10, 11, 12], [0.0, 1.0, 0.5]),
    document([20, 21, 22, 23], [0.0, 0.0, 0.0, 1.0], (1, 2), "image"),
    document([30], [1.0]),
    document([40, 41, 42, 43, 44], [0.0, 0.0, 0.0, 0.0, 2.0], (0, 1, 2, 3), "video"),
]


def test_targets_and_weights_belong_to_the_next_token_of_the_same_document() -> None:
    batch = Batch.pack(DOCUMENTS)
    ends = torch.tensor([2, 6, 7, 12])
    inside = torch.ones(13, dtype=torch.bool).index_fill(0, ends, False)
    assert batch.token_ids.tolist() == [10, 11, 12, 20, 21, 22, 23, 30, 40, 41, 42, 43, 44]
    assert batch.target_ids[inside].tolist() == [11, 12, 21, 22, 23, 41, 42, 43, 44]
    assert batch.loss_weights[inside].tolist() == [1.0, 0.5, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 2.0]
    assert not batch.loss_weights[ends].any(), "the last token of a document has no successor"
    assert batch.num_tokens == 13
    # The weight of a first token never counts: nothing predicts it.
    assert batch.num_valid_tokens == 4.5


def test_patches_move_with_their_documents() -> None:
    batch = Batch.pack(DOCUMENTS)
    assert batch.patch_positions.tolist() == [4, 5, 8, 9, 10, 11]
    assert batch.token_ids[batch.patch_positions].tolist() == [21, 22, 40, 41, 42, 43]
    assert batch.tiles[:, 0, 0, 0].tolist() == [20, 40, 40]
    assert batch.document_lengths == (3, 4, 1, 5)


def test_tokens_know_the_modality_of_their_document() -> None:
    names = [MODALITIES[index] for index in Batch.pack(DOCUMENTS).modality_ids().tolist()]
    assert names == ["text"] * 3 + ["image"] * 4 + ["text"] + ["video"] * 5


def test_packing_leaves_its_inputs_alone() -> None:
    before = [item.loss_weights.clone() for item in DOCUMENTS]
    Batch.pack(DOCUMENTS)
    Batch.pack(DOCUMENTS[::-1])
    for item, weights in zip(DOCUMENTS, before, strict=True):
        assert torch.equal(item.loss_weights, weights)


def test_all_tensors_move_and_nothing_else() -> None:
    batch = Batch.pack(DOCUMENTS)
    moved = batch.to(torch.device("meta"))
    tensors = {name for name, value in vars(batch).items() if isinstance(value, torch.Tensor)}
    assert len(tensors) == 5
    assert {getattr(moved, name).device.type for name in tensors} == {"meta"}
    assert moved.document_lengths == batch.document_lengths
    assert moved.document_modalities == batch.document_modalities


def test_every_document_keeps_its_source() -> None:
    named = [replace(document, source=name) for document, name in zip(DOCUMENTS, "abca", strict=True)]
    batch = Batch.pack(named)
    assert batch.document_sources == ("a", "b", "c", "a")
    assert batch.to(torch.device("cpu")).document_sources == batch.document_sources
    assert Batch.pack(DOCUMENTS).document_sources == ("", "", "", "")
