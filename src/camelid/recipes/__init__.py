"""Chosen numbers.

In: nothing. Out: configurations of stages by name. Must not know: anything but numbers; no logic lives here.
"""

from collections.abc import Callable

from camelid.recipes.nano import nano_herd, nano_scout, nano_scout_distilled
from camelid.stages.distill import CodistillConfig, DistillConfig
from camelid.stages.pretrain import PretrainConfig

__all__ = ["DISTILL_RECIPES", "RECIPES"]

RECIPES: dict[str, Callable[[], PretrainConfig]] = {"nano-scout": nano_scout}
DISTILL_RECIPES: dict[str, Callable[[], DistillConfig] | Callable[[], CodistillConfig]] = {
    "nano-scout": nano_scout_distilled,
    "nano-herd": nano_herd,
}
