"""A model and its engine: a thousand prompts at once, conversations, streams."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import count
from pathlib import Path

import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from camelid.checkpoint import StreamPlan, load_model, load_within
from camelid.checkpoint.chat_files import load_chat_format
from camelid.core import Completion, Message, ModelInput, SamplingParams
from camelid.core.errors import ConstraintError
from camelid.core.memory import available_memory
from camelid.infer.cache_plan import plan_cache
from camelid.infer.engine import Engine, EngineConfig
from camelid.infer.request import Request, TokenEvent
from camelid.inputs import AnyChatFormat
from camelid.model import Llama4

__all__ = ["LLM"]

CACHE_SHARE = 0.25  # of the memory that is free, for keys and values, unless told otherwise


class LLM:
    """Everything that an engine needs, loaded. Implements core's MessageCompleter.

    In bf16 on a CPU all runs in native code, and the model belongs to the engine from then on.
    """

    def __init__(
        self,
        model: Llama4,
        chat_format: AnyChatFormat,
        *,
        max_context: int | None = None,
        cache_bytes: int | None = None,
        config: EngineConfig | None = None,
        draft: Llama4 | None = None,
    ) -> None:
        self.config, self.chat_format = model.config, chat_format
        engine_config = config or EngineConfig()
        plan = plan_cache(
            model.config.text,
            cache_bytes or int(CACHE_SHARE * available_memory()),
            max_context=max_context,
            max_running=engine_config.max_running,
            dtype=torch.int8 if engine_config.precision.kv_bits else model.language_model.head_weight.dtype,
            draft=draft.config.text if draft else None,
        )
        self.engine = Engine(model, chat_format.tokenizer, plan, engine_config, draft)
        self._names = count()

    @classmethod
    def load(
        cls,
        path: Path,
        dtype: torch.dtype = torch.bfloat16,
        memory_bytes: int | None = None,
        announce: Callable[[StreamPlan], None] = lambda _: None,
        *,
        max_context: int | None = None,
        cache_bytes: int | None = None,
        config: EngineConfig | None = None,
        draft: Path | None = None,
    ) -> LLM:
        """From a GGUF file, or a folder with weights and tokenizer; larger than memory, its experts stay on disk.

        `draft`: a smaller model with the same tokens and chunks, whose guesses speed answers up and change none.
        """
        model = load_within(path, memory_bytes, dtype, announce)
        return cls(
            model,
            load_chat_format(path, model.config),
            max_context=max_context,
            cache_bytes=cache_bytes,
            config=config,
            draft=load_model(draft, dtype) if draft else None,
        )

    def generate(
        self,
        prompts: Sequence[str | ModelInput],
        sampling: SamplingParams | None = None,
        *,
        shows_progress: bool = False,
    ) -> list[Completion]:
        """Continues texts, or inputs made by a chat format, as many at a time as the engine can.

        Raises InputError for a prompt or a constraint that cannot be followed; then none is answered.
        """
        encode = self.chat_format.tokenizer.encode
        inputs = [
            ModelInput.of_text(encode(prompt)) if isinstance(prompt, str) else prompt for prompt in prompts
        ]
        return self._complete(inputs, sampling or SamplingParams(), shows_progress)

    def chat(
        self,
        conversations: Sequence[Sequence[Message]],
        sampling: SamplingParams | None = None,
        *,
        shows_progress: bool = False,
    ) -> list[Completion]:
        """The assistant's next message in each conversation."""
        inputs = [self.chat_format.encode(messages, for_generation=True) for messages in conversations]
        return self._complete(inputs, sampling or SamplingParams(), shows_progress)

    def complete(self, messages: Sequence[Message], sampling: SamplingParams) -> Completion:
        """One answer."""
        (completion,) = self.chat([messages], sampling)
        return completion

    def stream(self, messages: Sequence[Message], sampling: SamplingParams) -> Iterator[str]:
        """Pieces of one answer as they come; who stops listening ends it."""
        request = self._request(self.chat_format.encode(messages, for_generation=True), sampling)
        self.engine.add(request)
        try:
            while self.engine.has_work:
                for event in self.engine.step():
                    _check(event)
                    if event.text:
                        yield event.text
        finally:
            self.engine.cancel(request.id)

    def _request(self, prompt: ModelInput, sampling: SamplingParams) -> Request:
        return Request(f"llm-{next(self._names)}", prompt, sampling)

    def _complete(
        self, inputs: Sequence[ModelInput], sampling: SamplingParams, shows_progress: bool
    ) -> list[Completion]:
        requests = [self._request(prompt, sampling) for prompt in inputs]
        waiting, events = list(reversed(requests)), {request.id: list[TokenEvent]() for request in requests}
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, disable=not shows_progress) as progress:
            task = progress.add_task("answering", total=len(requests))
            try:
                while waiting or self.engine.has_work:
                    while waiting and self.engine.stats.num_waiting < self.engine.config.max_waiting:
                        self.engine.add(waiting.pop())
                    for event in self.engine.step():
                        _check(event)
                        events[event.request_id].append(event)
                        progress.advance(task, event.finish_reason is not None)
            finally:  # a prompt that was refused, an interrupt: nothing of this call stays behind
                for request in requests:
                    self.engine.cancel(request.id)
        return [self._completion(events[request.id]) for request in requests]

    def _completion(self, events: Sequence[TokenEvent]) -> Completion:
        stop_ids, last = self.chat_format.tokenizer.stop_ids, events[-1]
        assert last.finish_reason is not None and last.usage is not None
        token_ids = tuple(event.token_id for event in events if event.token_id not in stop_ids)
        return Completion("".join(event.text for event in events), token_ids, last.finish_reason, last.usage)


def _check(event: TokenEvent) -> None:
    if event.error is not None:
        raise ConstraintError(event.error)
