"""The exception tree.

CamelidError
├── ConfigError       a configuration that cannot be            (ValueError)
├── InputError        messages, images or videos we cannot read (ValueError)
│   ├── ImageError
│   ├── VideoError
│   └── ConstraintError   a schema, regex or grammar that no answer can follow
├── DataError         a data set, package or shard that is not what it says (ValueError)
├── CheckpointError   weights or state that do not fit           (ValueError)
└── TrainingError     a run that must not go on, such as a NaN loss (RuntimeError)

What a user can cause raises one of these, with the numbers in the message; what only we can cause is an
``assert``.
"""

from __future__ import annotations

__all__ = [
    "CamelidError",
    "CheckpointError",
    "ConfigError",
    "ConstraintError",
    "DataError",
    "ImageError",
    "InputError",
    "TrainingError",
    "VideoError",
]


class CamelidError(Exception):
    """Anything that Camelid refuses on purpose."""


class ConfigError(CamelidError, ValueError):
    """A configuration that cannot be."""


class InputError(CamelidError, ValueError):
    """Messages that cannot become model input."""


class ImageError(InputError):
    """A picture that cannot be read."""


class VideoError(InputError):
    """A clip that cannot be read."""


class ConstraintError(InputError):
    """A schema, regex or grammar that no answer can follow."""


class DataError(CamelidError, ValueError):
    """Data that is not what it says."""


class CheckpointError(CamelidError, ValueError):
    """Weights or training state that do not fit."""


class TrainingError(CamelidError, RuntimeError):
    """A run that must not go on."""
