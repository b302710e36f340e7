"""Pictures and clips to ask about."""

from cli.conftest import clip_path, picture_path

__all__ = ["clip_path", "picture_path"]
