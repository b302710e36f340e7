"""Configurations: frozen dataclasses that go to strict JSON and back, and have a digest."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from pydantic import ConfigDict, TypeAdapter, ValidationError

from camelid.core.digest import sha256_of_text
from camelid.core.errors import ConfigError

__all__ = ["Config"]

Self = TypeVar("Self", bound="Config")  # typing.Self, which the shape checker of the tests does not know


@dataclasses.dataclass(frozen=True)
class Config:
    """Base of everything that is configured. Misspelt, missing and mistyped fields are refused by name."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON-able values, nested configs included."""
        plain: dict[str, Any] = TypeAdapter(type(self)).dump_python(self, mode="json")
        return plain

    @classmethod
    def from_dict(cls: type[Self], values: dict[str, Any]) -> Self:
        """The inverse of `to_dict`; raises ConfigError that names each offending field."""
        try:
            return TypeAdapter(cls).validate_json(json.dumps(values), strict=True)
        except ValidationError as error:
            problems = "; ".join(
                f"{'.'.join(map(str, p['loc'])) or cls.__name__}: {p['msg']}" for p in error.errors()
            )
            raise ConfigError(f"{cls.__name__}: {problems}") from error

    def to_json(self) -> str:
        """Canonical JSON: sorted keys, so that equal configs have equal text."""
        return json.dumps(self.to_dict(), indent=2, sort_keys=True)

    @classmethod
    def from_json(cls: type[Self], text: str) -> Self:
        """The inverse of `to_json`; raises ConfigError on anything that is not such a config."""
        try:
            values = json.loads(text)
        except json.JSONDecodeError as error:
            raise ConfigError(f"{cls.__name__}: not JSON: {error}") from error
        if not isinstance(values, dict):
            raise ConfigError(f"{cls.__name__}: expected a JSON object, got {type(values).__name__}")
        return cls.from_dict(values)

    @classmethod
    def load(cls: type[Self], path: Path) -> Self:
        """Reads a JSON file; ConfigError also where it cannot be read."""
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"{path}: {error}") from error
        return cls.from_json(text)

    def replace(self: Self, **changes: Any) -> Self:
        """A copy with some fields changed."""
        return dataclasses.replace(self, **changes)

    @property
    def digest(self) -> str:
        """sha256 of the canonical JSON, in hex."""
        return sha256_of_text(self.to_json())
