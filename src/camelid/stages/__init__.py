"""One stage of a model's life per file.

In: a stage's configuration. Out: a run folder with checkpoints. Must not know: other stages.
"""

__all__: list[str] = []
