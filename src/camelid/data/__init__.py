"""Sources of examples, mixed, packed and handed out with the state that resumes them.

In: files, packages, the starter pack. Out: batches. Must not know: the model.
"""

from camelid.data.augment import AugmentConfig
from camelid.data.example import Conversation, Document, Example, Source
from camelid.data.hub import HubSource
from camelid.data.loader import BatchLoader, LoaderState, LossAveraging
from camelid.data.mixture import Mixture
from camelid.data.questions.naming import NamingConfig
from camelid.data.sources import JsonlSource, ParquetSource, TextFolderSource, open_sources
from camelid.data.starter import StarterPack
from camelid.data.starter_mixture import StarterWeights, starter_mixture
from camelid.data.teacher_targets import TargetOrigin, TargetStore, TeacherTargets, batch_key

__all__ = [
    "AugmentConfig",
    "BatchLoader",
    "Conversation",
    "Document",
    "Example",
    "HubSource",
    "JsonlSource",
    "LoaderState",
    "LossAveraging",
    "Mixture",
    "NamingConfig",
    "ParquetSource",
    "Source",
    "StarterPack",
    "StarterWeights",
    "TargetOrigin",
    "TargetStore",
    "TeacherTargets",
    "TextFolderSource",
    "batch_key",
    "open_sources",
    "starter_mixture",
]
