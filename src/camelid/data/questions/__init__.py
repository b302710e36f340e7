"""Questions with known answers about the starter pack: sources for training, fixed problems for judging.

In: the starter pack. Out: sources and problems. Must not know: the model, how packing works.
"""

from camelid.data.questions.problem import Problem, blind_twins

__all__ = ["Problem", "blind_twins"]
