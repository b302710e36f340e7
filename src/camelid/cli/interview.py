"""Asking a model the same held-out questions again and again while it learns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from time import monotonic

from camelid.cli.gallery import GalleryItem, ask
from camelid.core import MessageCompleter
from camelid.core.run_dir import RunDir
from camelid.data.questions.problem import Problem
from camelid.infer import Generator
from camelid.inputs import ChatFormat
from camelid.model import Llama4
from camelid.train.step import StepMetrics

__all__ = ["Interview"]


class Interview:
    """Every `seconds_between` seconds of training, puts all problems to the model as it is then.

    `on_start` and `on_step` are what a stage calls; `show` gets the answers and a title. Asking is greedy and
    touches neither weights nor the global random state, so that training goes on as if nobody had asked.
    """

    def __init__(
        self,
        problems: Sequence[Problem],
        show: Callable[[Sequence[GalleryItem], str], None],
        seconds_between: float = 60.0,
        *,
        completer_for: Callable[[Llama4, ChatFormat], MessageCompleter] = Generator,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._problems = problems
        self._show = show
        self._pause = seconds_between
        self._completer_for = completer_for
        self._clock = clock
        self._asked_at = clock()
        self._model: Llama4 | None = None
        self._completer: MessageCompleter | None = None

    def on_start(self, run: RunDir, model: Llama4, chat_format: ChatFormat) -> None:
        """Before the first step."""
        self._model, self._completer = model, self._completer_for(model, chat_format)
        self._asked_at = self._clock()

    def on_step(self, metrics: StepMetrics) -> None:
        """After every step; asks when it is time."""
        if self._clock() - self._asked_at < self._pause:
            return
        items = self.ask(self._problems)
        num_right = sum(item.is_right for item in items)
        self._show(
            items, f"never seen before, asked at step {metrics.step:,}: {num_right} of {len(items)} right"
        )
        self._asked_at = self._clock()

    def ask(
        self, problems: Sequence[Problem], on_answer: Callable[[GalleryItem], None] | None = None
    ) -> list[GalleryItem]:
        """All problems, now."""
        assert self._model is not None and self._completer is not None, "training has not started"
        is_training = self._model.training
        self._model.eval()
        items = []
        for problem in problems:
            items.append(ask(self._completer, problem))
            if on_answer is not None:
                on_answer(items[-1])
        self._model.train(is_training)
        return items
