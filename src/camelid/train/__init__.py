"""Making loss go down, at any stage.

In: a model, batches, numbers. Out: metrics and checkpoints. Must not know: which stage it serves.
"""
