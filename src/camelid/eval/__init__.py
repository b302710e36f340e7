"""Asking, scoring, counting.

In: problems and a completer. Out: scores with intervals. Must not know: how answers are made.
"""

from camelid.eval.judge import compression, is_right, judge
from camelid.eval.scores import Compression, Score, wilson_interval

__all__ = ["Compression", "Score", "compression", "is_right", "judge", "wilson_interval"]
