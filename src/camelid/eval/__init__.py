"""Asking, scoring, counting.

In: problems and a completer. Out: scores with intervals. Must not know: how answers are made.
"""

from camelid.eval.gallery import GalleryItem, ask
from camelid.eval.judge import compression, is_right, judge
from camelid.eval.long_context import LongContextReport, loss_by_position, score_by_length
from camelid.eval.scores import Compression, Score, wilson_interval

__all__ = [
    "Compression",
    "GalleryItem",
    "LongContextReport",
    "Score",
    "ask",
    "compression",
    "is_right",
    "judge",
    "loss_by_position",
    "score_by_length",
    "wilson_interval",
]
