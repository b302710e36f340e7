"""The command `camelid`: what a person types and sees.

In: arguments, a terminal. Out: runs, answers, reports. Must not know: how anything below is done.
"""

__all__: list[str] = []
