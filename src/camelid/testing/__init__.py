"""Fakes that behave like the real thing, for tests of ours and of others.

In: scripts of what to say. Out: completers, models in miniature. Must not know: the command line.
"""

from camelid.testing.scripted import ScriptedGenerator
from camelid.testing.tiny import NUM_SPECIAL_TOKENS, TinyKind, tiny_config, tiny_input, tiny_model

__all__ = [
    "NUM_SPECIAL_TOKENS",
    "ScriptedGenerator",
    "TinyKind",
    "tiny_config",
    "tiny_input",
    "tiny_model",
]
