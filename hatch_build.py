"""Compiles the native kernels as a part of an install; without a working compiler the install goes on."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

KERNELS = ("step", "linear")
FLAGS = ["-std=c++17", "-O3", "-fPIC"]
PATHS: dict[str, list[str]] = {"baseline": []}
if platform.machine() in ("x86_64", "AMD64"):
    PATHS["avx2"] = ["-mavx2", "-mfma"]
    avx512 = [f"-mavx512{part}" for part in ("f", "bw", "vl", "dq", "vnni", "bf16")]
    PATHS["avx512_bf16"] = [*PATHS["avx2"], *avx512, "-mprefer-vector-width=512"]


class NativeBuildHook(BuildHookInterface):
    """One shared library from `ops/native`, into the wheel or beside its sources."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        folder = Path(self.root, "src", "camelid", "ops", "native")
        library = folder / "libcamelid_native.so"
        sources = [*folder.glob("*.cpp"), *folder.glob("*.h"), Path(__file__)]
        problem = None if is_current(library, sources) else compile_kernels(folder, library)
        if problem is not None:
            return self.app.display_warning(f"{problem}; decoding will be slower")
        build_data["artifacts"].append(library.relative_to(self.root).as_posix())
        build_data["pure_python"] = False
        # For any Python: nothing in the library knows its headers.
        build_data["tag"] = f"py3-none-{re.sub('[-.]', '_', sysconfig.get_platform())}"
        return None


def is_current(library: Path, sources: list[Path]) -> bool:
    """Whether an earlier install has compiled these sources: each group of extras is an install of its own."""
    return library.exists() and library.stat().st_mtime > max(path.stat().st_mtime for path in sources)


def compile_kernels(folder: Path, library: Path) -> str | None:
    """None, or what was in the way."""
    compiler = os.environ.get("CXX") or next(filter(shutil.which, ("c++", "g++", "clang++")), None)
    if compiler is None:
        return "no C++ compiler"
    try:
        try:
            compile_library(compiler, [*FLAGS, "-fopenmp"], folder, library)
        except subprocess.CalledProcessError:  # without OpenMP, a compiler still makes kernels for one thread
            compile_library(compiler, FLAGS, folder, library)
    except (subprocess.CalledProcessError, OSError) as error:
        return f"native kernels did not compile: {getattr(error, 'stderr', error)}"
    return None


def compile_library(compiler: str, flags: list[str], folder: Path, library: Path) -> None:
    """Every kernel once for each instruction set, side by side; then all into one library, put in place whole."""
    with tempfile.TemporaryDirectory() as scratch:
        running, objects = [], []
        for path, extra in PATHS.items():
            for kernel in KERNELS:
                objects.append(str(Path(scratch, f"{kernel}-{path}.o")))
                command = [
                    compiler,
                    *flags,
                    *extra,
                    f"-DCAMELID_PATH={path}",
                    "-c",
                    str(folder / f"{kernel}.cpp"),
                ]
                pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
                running.append(subprocess.Popen([*command, "-o", objects[-1]], **pipes))
        for process in running:
            output, _ = process.communicate()
            if process.returncode:
                raise subprocess.CalledProcessError(process.returncode, process.args, stderr=output)
        building = library.with_suffix(".building")
        command = [compiler, *flags, "-shared", str(folder / "paths.cpp"), *objects, "-o", str(building)]
        subprocess.run(command, check=True, capture_output=True, text=True)
        building.replace(library)
