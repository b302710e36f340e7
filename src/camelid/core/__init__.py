"""The nouns that travel between rooms.

In: nothing of ours. Out: messages, model inputs, batches, completions, configs, run folders, errors.
Must not know: modules, other rooms.
"""

from camelid.core.batch import MODALITIES, Batch, Modality, ModelInput
from camelid.core.completion import (
    Completion,
    DocumentScorer,
    FinishReason,
    MessageCompleter,
    TokenScorer,
    Usage,
)
from camelid.core.config import Config
from camelid.core.messages import (
    Frame,
    ImagePart,
    Message,
    Part,
    Role,
    TextPart,
    ToolCall,
    ToolDefinition,
    VideoPart,
)
from camelid.core.sampling import Constraint, SamplingParams

__all__ = [
    "MODALITIES",
    "Batch",
    "Completion",
    "Config",
    "Constraint",
    "DocumentScorer",
    "FinishReason",
    "Frame",
    "ImagePart",
    "Message",
    "MessageCompleter",
    "Modality",
    "ModelInput",
    "Part",
    "Role",
    "SamplingParams",
    "TextPart",
    "TokenScorer",
    "ToolCall",
    "ToolDefinition",
    "Usage",
    "VideoPart",
]
