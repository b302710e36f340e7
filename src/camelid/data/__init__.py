"""Sources of examples, mixed, packed and handed out with the state that resumes them.

In: files, packages, the starter pack. Out: batches. Must not know: the model.
"""
