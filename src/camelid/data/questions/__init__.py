"""Questions with known answers about the starter pack: sources for training, fixed problems for judging.

In: the starter pack. Out: sources and problems. Must not know: the model, how packing works.
"""
