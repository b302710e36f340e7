"""Questions and answers in a row become a conversation."""

from __future__ import annotations

from collections.abc import Sequence

from camelid.core.messages import Message, Part
from camelid.data.example import Conversation

__all__ = ["Turn", "talk"]

# A question and its answer.
Turn = tuple[str, str]


def talk(turns: Sequence[Turn], shown: Sequence[Part] = (), *, is_shown_last: bool = False) -> Conversation:
    """A conversation whose first question comes after the pictures or clips shown, or before them."""
    (question, answer), *rest = turns
    first = (question, *shown) if is_shown_last else (*shown, question)
    messages = [Message.of("user", *first), Message.of("assistant", answer)]
    for question, answer in rest:
        messages += Message.of("user", question), Message.of("assistant", answer)
    return Conversation(tuple(messages))
