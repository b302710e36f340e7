"""Fewer bits: weights as whole numbers in groups, and what that costs.

In: models, folders. Out: models that compute with rounded weights, folders, measured differences. Must not know: who
asked.
"""

from camelid.quantize.precision import Precision
from camelid.quantize.quality import Difference, compare_logits
from camelid.quantize.rounding import round_weights

__all__ = ["Difference", "Precision", "compare_logits", "round_weights"]
