"""Pairs of answers of which one is preferred, for direct preference optimisation.

In: files of pairs, the starter pack. Out: pairs, and measures of an answer's style. Must not know: models.
"""

from camelid.data.preferences.pair import PreferencePair, read_pairs
from camelid.data.preferences.variants import VARIANTS, VariantName, style_of, variant_pairs

__all__ = [
    "VARIANTS",
    "PreferencePair",
    "VariantName",
    "read_pairs",
    "style_of",
    "variant_pairs",
]
