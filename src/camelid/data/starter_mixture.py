"""The starter pack as one mixture: what a demo model learns from."""

from __future__ import annotations

from dataclasses import dataclass

from camelid.core.config import Config
from camelid.data.augment import AugmentConfig
from camelid.data.mixture import Mixture
from camelid.data.questions.cast import Cast
from camelid.data.questions.clips import Clips
from camelid.data.questions.motion import Motion
from camelid.data.questions.naming import Naming, NamingConfig
from camelid.data.questions.scenes import Scenes
from camelid.data.questions.text import Glosses, Prose, Words
from camelid.data.questions.which_of import WhichOf
from camelid.data.starter import StarterPack

__all__ = ["StarterWeights", "starter_mixture"]


@dataclass(frozen=True)
class StarterWeights(Config):
    """Shares of examples, in any unit. 0 leaves a source out."""

    naming: float = 0.64
    which_of: float = 0.015
    scenes: float = 0.25
    clips: float = 0.05
    motion: float = 0.025
    prose: float = 0.01
    glosses: float = 0.004
    words: float = 0.006


def starter_mixture(
    pack: StarterPack,
    weights: StarterWeights = StarterWeights(),
    *,
    augment: AugmentConfig = AugmentConfig(),
    naming: NamingConfig = NamingConfig(),
    seed: int = 0,
) -> Mixture:
    """All sources over the pack's train split. `seed` decides the order of their epochs.

    Raises ConfigError for weights that make no mixture, and DataError for a pack that cannot be read.
    """
    cast = Cast(pack.drawings("train"))
    return Mixture(
        {
            Naming(cast, seed, augment, naming): weights.naming,
            WhichOf(cast, seed, augment): weights.which_of,
            Scenes(cast): weights.scenes,
            Clips(pack.clips("train"), seed, augment): weights.clips,
            Motion(cast): weights.motion,
            Prose(pack.prose("train"), seed): weights.prose,
            Glosses(pack.glosses("train"), seed): weights.glosses,
            Words(cast.concepts, seed): weights.words,
        }
    )
