"""Where Meta's code and transformers' template for Llama 4 do not write the same, as data.

Sources: `llama4/chat_format.py` in llama-models 0.3.0; `processing_llama4.py` in transformers 5.23, which is also
the template in the published tokenizers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["STYLES", "ChatStyle", "StyleName"]

StyleName = Literal["camelid", "transformers", "meta"]
End = Literal["eot", "eom"]


@dataclass(frozen=True)
class ChatStyle:
    """One way to write a conversation."""

    joins_text: bool
    """The blank line after a header and all text that touches it become token ids as one string. Otherwise each
    part does on its own."""

    trims_system: bool
    """A system message at the start loses the blanks around it."""

    quotes_results: bool
    """What a tool answered is written as a JSON string."""

    marks_content: bool
    """What the assistant says before calls in JSON stands between python_start and python_end."""

    is_one_call_a_piece: bool
    """Each call is a text of its own, in Python's form a list of its own; JSON is ASCII and has its type."""

    calls_end: End
    results_end: End


STYLES: dict[StyleName, ChatStyle] = {
    # Transformers' turns; plain text in Meta's way, so that a tokenizer never sees where a header ended.
    "camelid": ChatStyle(
        joins_text=False,
        trims_system=False,
        calls_end="eot",
        results_end="eot",
        quotes_results=True,
        marks_content=True,
        is_one_call_a_piece=False,
    ),
    "transformers": ChatStyle(
        joins_text=True,
        trims_system=True,
        calls_end="eot",
        results_end="eot",
        quotes_results=True,
        marks_content=True,
        is_one_call_a_piece=False,
    ),
    "meta": ChatStyle(
        joins_text=False,
        trims_system=False,
        calls_end="eom",
        results_end="eom",
        quotes_results=False,
        marks_content=False,
        is_one_call_a_piece=True,
    ),
}
