"""The compiled library of our operations."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from functools import cache
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from worldvalue.data.files import replacing, user_cache

_SOURCES = sorted(path for path in Path(__file__).parent.iterdir() if path.suffix in (".cpp", ".hpp"))
_OPTIONS = ["-std=c++17", "-O3", "-march=sapphirerapids", "-fPIC", "-shared", "-DOV_THREAD=OV_THREAD_TBB_ADAPTIVE"]


@cache
def library() -> Path | None:
    """The library that OpenVINO loads our operations from, compiled in some seconds and kept in the user's cache.

    None where the CPU has no matrix unit or nothing here compiles C++: then OpenVINO's own operations have to do, which
    give the same values but for rounding. OpenVINO must be installed. ``CXX`` names the compiler, ``c++`` if it is
    unset.
    """
    compiler = shutil.which(os.environ.get("CXX") or "c++")
    if compiler is None or not _has_matrix_unit():
        return None
    told = [version("openvino"), *_OPTIONS, *(path.read_text(encoding="utf-8") for path in _SOURCES)]
    compiled = user_cache() / "kernels" / f"{hashlib.sha256(repr(told).encode()).hexdigest()[:16]}.so"
    return compiled if compiled.is_file() or _compiles(compiler, compiled) else None


def _compiles(compiler: str, library: Path) -> bool:
    """Whether a compiler can write the library, and it is there then."""
    home = Path(find_spec("openvino").origin).parent  # type: ignore[union-attr, arg-type]
    called = [path for pattern in ("libopenvino.so*", "libtbb.so*") for path in (home / "libs").glob(pattern)]
    units = [path for path in _SOURCES if path.suffix == ".cpp"]
    try:
        with replacing(library, shared=True) as partial:
            options = [*_OPTIONS, f"-I{home / 'include'}", f"-Wl,-rpath,{home / 'libs'}"]
            command: list[str | Path] = [compiler, *options, "-o", partial, *units, *called]
            subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        return False
    return True


def _has_matrix_unit() -> bool:
    told = Path("/proc/cpuinfo")
    return told.is_file() and {"amx_bf16", "avx512_bf16"} <= set(told.read_text(encoding="utf-8").split())
