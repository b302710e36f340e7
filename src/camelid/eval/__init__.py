"""Asking, scoring, counting.

In: problems and a completer. Out: scores with intervals. Must not know: how answers are made.
"""

from camelid.eval.judge import bits_per_byte, is_right, judge
from camelid.eval.scores import Score, wilson_interval

__all__ = ["Score", "bits_per_byte", "is_right", "judge", "wilson_interval"]
