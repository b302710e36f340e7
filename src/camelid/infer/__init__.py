"""Making tokens come out, for any caller.

In: messages and sampling parameters. Out: completions, streams, scores. Must not know: HTTP, rewards.
"""

from camelid.infer.generator import Generator
from camelid.infer.llm import LLM
from camelid.infer.locate import load

__all__ = ["LLM", "Generator", "load"]
