"""Compute is counted by hand once, and experts only as far as a token meets them."""

from __future__ import annotations

import pytest
import torch

from camelid.claims import Evidence, Measurement
from camelid.claims.distillation import DISTILLATION
from camelid.claims.early_fusion import EARLY_FUSION
from camelid.claims.held_out_losses import calibration_error, mean_nats
from camelid.core import ModelInput
from camelid.model import active_parameters
from camelid.model.flops import training_flops
from camelid.testing import tiny_config, tiny_model


def test_a_token_costs_six_times_the_weights_that_it_meets() -> None:
    config = tiny_config("scout", vision=True)
    text = config.text
    lookups = text.vocab_size * text.hidden_size
    norms = text.hidden_size * (2 * text.num_hidden_layers + 1)
    assert training_flops(config, 10, 0) == 60 * (active_parameters(config) - lookups - norms)
    vision = config.vision
    assert vision is not None
    patches, width = vision.patches_per_side**2, vision.hidden_size
    layer = 4 * width**2 + 2 * width * vision.intermediate_size
    encoder = 3 * vision.patch_size**2 * width + vision.num_hidden_layers * layer
    adapter = (
        4 * width * vision.projector_dim + vision.projector_dim**2 + vision.projector_dim * text.hidden_size
    )
    assert training_flops(config, 0, 3) == 18 * (patches * encoder + patches // 4 * adapter)


def test_a_model_that_knows_nothing_is_as_sure_as_it_is_right() -> None:
    model = tiny_model()
    with torch.no_grad():
        model.language_model.lm_head.weight.zero_()
    inputs = [ModelInput.of_text(torch.arange(50) % 7 + 1)] * 20
    assert mean_nats(model, inputs) == pytest.approx(torch.tensor(model.config.text.vocab_size).log().item())
    assert calibration_error(model, inputs) == pytest.approx(1 / model.config.text.vocab_size, abs=1e-6)


def fusion(caption: float, names: float, text: float, flops: float) -> Evidence:
    def run(arm: str, caption: float, names: float, text: float, flops: float) -> Measurement:
        numbers = {"caption nats": caption, "name accuracy": names, "text nats": text, "FLOPs": flops}
        return Measurement(arm, 0, "", numbers)

    return Evidence(
        (
            run("A joint-encoder", caption, names, text, flops),
            run("B bolt-on", 1.0, 0.5, 4.0, 1e12),
            run("C encoder-free", 1.0, 0.5, 4.0, 1e12),
        )
    )


def test_early_fusion_has_to_win_everywhere_at_equal_compute() -> None:
    assert EARLY_FUSION.judge(fusion(0.9, 0.5, 4.03, 1.01e12)).passed
    worse = [(1.1, 0.6, 4.0, 1e12), (0.9, 0.4, 4.0, 1e12), (0.9, 0.6, 4.05, 1e12), (0.9, 0.6, 4.0, 1.05e12)]
    assert not any(EARLY_FUSION.judge(fusion(*numbers)).passed for numbers in worse)


@pytest.mark.parametrize(
    ("gain", "seconds", "passes"), [(0.03125, 1.05, True), (0.02, 1.05, False), (0.05, 1.2, False)]
)
def test_distillation_needs_its_margin_in_every_seed_and_its_speed(
    gain: float, seconds: float, passes: bool
) -> None:
    def run(student: str, way: str, seed: int) -> Measurement:
        # One student's second seed is the narrow one.
        margin = gain if (student, seed) == ("nano-maverick", 1) else 0.1
        is_distilled = way == "distilled"
        numbers = {
            "hard nats": 4.0 - margin * is_distilled,
            "ECE": 0.1,
            "step seconds": seconds if is_distilled else 1.0,
        }
        curve = ((100.0, 5.0), (200.0, 4.0 if is_distilled else 4.5), (400.0, 4.0))
        return Measurement(f"{student}, {way}", seed, "", numbers, {"training loss": curve})

    runs = (
        run(student, way, seed)
        for seed in (0, 1)
        for student in ("nano-scout", "nano-maverick")
        for way in ("scratch", "distilled")
    )
    verdict = DISTILLATION.judge(Evidence(tuple(runs)))
    assert verdict.passed == passes
    assert "0.50 of the tokens to the same loss" in verdict.measured
