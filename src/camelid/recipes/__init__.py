"""Chosen numbers.

In: nothing. Out: configurations of stages by name. Must not know: anything but numbers; no logic lives here.
"""

from collections.abc import Callable

from camelid.recipes.nano import demo, nano_scout
from camelid.stages.pretrain import PretrainConfig

__all__ = ["RECIPES"]

RECIPES: dict[str, Callable[[], PretrainConfig]] = {"demo": demo, "nano-scout": nano_scout}
