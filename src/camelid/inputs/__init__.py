"""Messages, pictures and clips become token ids and tiles; ids become text.

In: core messages. Out: core model input. Must not know: models, data sets.
"""
