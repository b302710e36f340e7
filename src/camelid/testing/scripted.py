"""A completer that says what it was told to say."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence

from camelid.core import Completion, Message, SamplingParams, Usage
from camelid.core.errors import CamelidError

__all__ = ["ScriptedGenerator"]

Reply = str | CamelidError | KeyboardInterrupt


class ScriptedGenerator:
    """Answers with `replies` in turn (the last one for ever), or with what a function makes of the messages.

    A reply that is an exception is raised. `asked` keeps every conversation it was given.
    """

    def __init__(self, replies: Sequence[Reply] | Callable[[Sequence[Message]], str]) -> None:
        assert callable(replies) or replies, "a script needs at least one reply"
        self.replies = replies
        self.asked: list[tuple[Message, ...]] = []

    def complete(self, messages: Sequence[Message], sampling: SamplingParams) -> Completion:
        """One answer; a token is a word with the blanks before it."""
        words = _words(self._reply(messages))
        said = words[: sampling.max_tokens]
        num_prompt_tokens = sum(len(_words(message.text)) for message in messages)
        return Completion(
            text="".join(said),
            token_ids=tuple(range(len(said))),
            finish_reason="stop" if len(said) == len(words) else "length",
            usage=Usage(num_prompt_tokens, len(said)),
        )

    def stream(self, messages: Sequence[Message], sampling: SamplingParams) -> Iterator[str]:
        """The same answer, a word at a time."""
        yield from _words(self._reply(messages))[: sampling.max_tokens]

    def _reply(self, messages: Sequence[Message]) -> str:
        self.asked.append(tuple(messages))
        if callable(self.replies):
            return self.replies(messages)
        reply = self.replies[min(len(self.asked), len(self.replies)) - 1]
        if isinstance(reply, BaseException):
            raise reply
        return reply


def _words(text: str) -> list[str]:
    return re.findall(r"\s*\S+|\s+$", text)
