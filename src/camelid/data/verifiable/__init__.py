"""Problems that check their own answers, for learning by reward.

In: the starter pack, reasoning-gym. Out: challenges with rewards, and which of them to ask. Must not know: models.
"""

from camelid.data.verifiable.challenge import Challenge, Task, TaskExamples
from camelid.data.verifiable.pool import PoolConfig, PoolState, Prompt, PromptPool
from camelid.data.verifiable.tasks import open_tasks

__all__ = [
    "Challenge",
    "PoolConfig",
    "PoolState",
    "Prompt",
    "PromptPool",
    "Task",
    "TaskExamples",
    "open_tasks",
]
