"""The sampler against probabilities worked out by hand."""

from __future__ import annotations

import pytest
import torch

from camelid.core import SamplingParams
from camelid.core.errors import ConfigError
from camelid.infer import sample

LOGITS = torch.tensor([0.5, 0.3, 0.15, 0.05]).log()


def frequencies(params: SamplingParams, draws: int = 4000) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    ids = torch.tensor([sample(LOGITS.clone(), params, generator) for _ in range(draws)])
    return torch.bincount(ids, minlength=4) / draws


def test_temperature_zero_is_greedy() -> None:
    assert sample(LOGITS, SamplingParams(temperature=0.0)) == 0


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        (SamplingParams(temperature=1.0), [0.5, 0.3, 0.15, 0.05]),
        (SamplingParams(temperature=1.0, top_k=2), [0.625, 0.375, 0, 0]),
        (SamplingParams(temperature=1.0, top_p=0.8), [0.625, 0.375, 0, 0]),
        (SamplingParams(temperature=1.0, top_p=0.81), [0.5263, 0.3158, 0.1579, 0]),
        (SamplingParams(temperature=0.5), [0.6849, 0.2466, 0.0616, 0.0068]),
    ],
)
def test_drawn_frequencies(params: SamplingParams, expected: list[float]) -> None:
    # Three standard deviations of 4,000 draws are at most 0.024.
    assert frequencies(params) == pytest.approx(expected, abs=0.024)


def test_same_seed_same_draw() -> None:
    params = SamplingParams(temperature=1.0)
    first, second = (
        [sample(LOGITS.clone(), params, generator) for _ in range(20)]
        for generator in (torch.Generator().manual_seed(7), torch.Generator().manual_seed(7))
    )
    assert first == second


@pytest.mark.parametrize("bad", [{"temperature": -1.0}, {"top_p": 0.0}, {"top_k": -1}, {"max_tokens": 0}])
def test_senseless_parameters_are_refused(bad: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=next(iter(bad))):
        SamplingParams.from_dict(dict(bad))
