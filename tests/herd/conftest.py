"""What every run in miniature needs."""

from stages.conftest import _one_thread_one_pack

__all__ = ["_one_thread_one_pack"]
