"""Documents packed end to end equal the same documents alone: values and gradients."""

from __future__ import annotations

import pytest
import torch

from camelid.core import Batch, ModelInput
from camelid.core.errors import InputError
from camelid.model import Llama4
from camelid.testing.tiny import TinyKind, tiny_input, tiny_model

TOLERANCE = 2e-5  # measured: 2.0e-6 on hidden states of size 4, fp32
GRADIENT_TOLERANCE = 2e-5  # relative to a parameter's largest gradient; measured: 1.4e-6


def run(model: Llama4, items: list[ModelInput]) -> torch.Tensor:
    batch = Batch.pack(items)
    return model(batch.token_ids, batch.document_lengths, batch.tiles, batch.patch_positions).hidden


def gradients(model: Llama4) -> dict[str, torch.Tensor]:
    return {name: x.grad for name, x in model.named_parameters() if x.grad is not None}


@pytest.mark.parametrize("lengths", [(5, 37, 16, 1, 20), (16, 16, 16), (48, 1), (7, 7)])
def test_packed_equals_separate(kind: TinyKind, lengths: tuple[int, ...]) -> None:
    """Lengths below, at and above a chunk; every second long document opens with an image."""
    model = tiny_model(kind, vision=True)
    items = [
        tiny_input(model.config, length, (1,) if length > 5 and index % 2 else (), seed=index)
        for index, length in enumerate(lengths)
    ]
    upstream = torch.randn(sum(lengths), model.config.text.hidden_size)

    packed = run(model, items)
    packed.backward(upstream)
    packed_gradients = gradients(model)
    model.zero_grad()
    separate = torch.cat([run(model, [item]) for item in items])
    separate.backward(upstream)

    torch.testing.assert_close(packed, separate, atol=TOLERANCE, rtol=0)
    assert packed_gradients.keys() == gradients(model).keys()
    for name, expected in gradients(model).items():
        error = (packed_gradients[name] - expected).abs().max() / expected.abs().max()
        assert error <= GRADIENT_TOLERANCE, f"{name}: {error:.1e}"


@torch.no_grad()
def test_a_document_never_sees_its_neighbours(model: Llama4) -> None:
    """Whatever stands before or behind."""
    first, second, third = (tiny_input(model.config, 21, seed=seed) for seed in range(3))
    middle = run(model, [first, second, third])[21:42]
    again = run(model, [third, second, first])[21:42]
    torch.testing.assert_close(middle, again, atol=TOLERANCE, rtol=0)


def test_lengths_must_add_up() -> None:
    with pytest.raises(InputError, match="sum to 7, but there are 8 tokens"):
        tiny_model()(torch.zeros(8, dtype=torch.long), (4, 3))
