"""Asking a model the same held-out questions again and again while it learns."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from camelid.core import MessageCompleter
from camelid.data.questions.problem import Problem
from camelid.eval import GalleryItem, ask
from camelid.model import Llama4
from camelid.train.step import StepMetrics

__all__ = ["Interview"]


class Interview:
    """An observer that puts all problems to a live model after every `seconds_between` seconds of its steps.

    `completer` answers with the model as it is; `show` gets the answers and a title. Asking is greedy and touches
    neither weights nor the global random state, so that training goes on as if nobody had asked.
    """

    def __init__(
        self,
        problems: Sequence[Problem],
        model: Llama4,
        completer: MessageCompleter,
        show: Callable[[Sequence[GalleryItem], str], None],
        seconds_between: float = 20.0,
    ) -> None:
        self._problems, self._model, self._completer = problems, model, completer
        self._show, self._pause = show, seconds_between
        self._seconds = 0.0

    def __call__(self, metrics: StepMetrics) -> None:
        """After every step; asks when it is time."""
        self._seconds += metrics.seconds
        if self._seconds < self._pause:
            return
        self._seconds = 0.0
        is_training = self._model.training
        self._model.eval()
        items = [ask(self._completer, problem) for problem in self._problems]
        self._model.train(is_training)
        num_right = sum(item.is_right for item in items)
        self._show(
            items, f"never seen before, asked at step {metrics.step:,}: {num_right} of {len(items)} right"
        )
