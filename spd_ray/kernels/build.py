"""The compiled library: built once a machine into the cache, loaded in milliseconds, absent with one line of reason.

Why so: docs/decisions.md #compiled-once-a-machine-or-plain-torch.
"""

import functools
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import torch

from spd_ray.base.cache import build_once, content_key, files_key, folder_of

HERE = Path(__file__).parent / "cpp"
SOURCES = ["ops.cpp", "encoder.cpp", "between.cpp", "portable.cpp", "avx2.cpp", "avx512.cpp"]
FLAGS = ["-O3", "-ffp-contract=fast", "-fno-math-errno", "-fno-trapping-math", "-fopenmp", "-Wno-psabi"]
MORE_FLAGS = "SPD_RAY_KERNELS_FLAGS"  # for sanitizers
SWITCH = "SPD_RAY_KERNELS"  # "off": plain torch everywhere
LIBRARY = "spd_ray_kernels.so"
FAILURE = "failure.txt"  # in the place of the library


@functools.cache
def unavailable_because() -> str | None:
    """Why there are no kernels here, in one line; None where they are built and loaded. Builds at the first call.

    That they cannot be built is kept beside what would have been built, so that no other process tries again:
    `forget_failure` lets the next one.
    """
    if os.environ.get(SWITCH) == "off":
        return f"{SWITCH} is off"
    if shutil.which(_compiler()) is None:
        return f"no C++ compiler ({_compiler()}) is installed"
    try:
        folder = build_once("kernels", library_key(), _build)
        if (folder / FAILURE).is_file():
            return f"the kernels cannot be built: {(folder / FAILURE).read_text()}"
        torch.ops.load_library(folder / LIBRARY)
    except Exception as error:
        return f"the kernels cannot be loaded: {_reason(str(error))}"
    return None


def forget_failure() -> None:
    """Let the kernels be built once more where that has failed: what stood in the way may be mended."""
    if shutil.which(_compiler()) and (folder_of("kernels", library_key()) / FAILURE).is_file():
        shutil.rmtree(folder_of("kernels", library_key()), ignore_errors=True)
        unavailable_because.cache_clear()


def available() -> bool:
    """Whether the compiled kernels can be used; False where they cannot be built (`unavailable_because` says why)."""
    return unavailable_because() is None


def _compiler() -> str:
    return os.environ.get("CXX") or "c++"


@functools.cache
def library_key() -> str:
    """Of what the library depends on: its sources and flags, torch, the compiler and the machine's family."""
    run = subprocess.run([_compiler(), "--version"], capture_output=True, text=True, check=False)
    version = run.stdout.partition("\n")[0]
    sources = files_key(file for file in HERE.iterdir() if file.suffix in (".cpp", ".h"))
    return content_key(
        {"sources": sources, "flags": _flags(), "torch": torch.__version__, "cxx": version, "arch": platform.machine()}
    )


def _flags() -> list[str]:
    return FLAGS + os.environ.get(MORE_FLAGS, "").split()


def _build(folder: Path) -> None:
    """In a process of its own: torch's builder loads what it built, from a place that is not the library's last."""
    built = folder / "build"
    built.mkdir()
    arguments = {
        "name": "spd_ray_kernels_build",
        "sources": [str(HERE / source) for source in SOURCES],
        "extra_cflags": _flags(),
        "extra_ldflags": ["-fopenmp", *os.environ.get(MORE_FLAGS, "").split()],
        "build_directory": str(built),
        "is_python_module": False,
    }
    code = f"from torch.utils import cpp_extension\ncpp_extension.load(**{arguments!r})"
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])  # ninja lies beside python
    environment = {**os.environ, "PATH": path}
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=environment)
    if run.returncode:
        (folder / FAILURE).write_text(_reason(run.stdout + run.stderr))
    else:
        shutil.copy(built / "spd_ray_kernels_build.so", folder / LIBRARY)
    shutil.rmtree(built)


def _reason(output: str) -> str:
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    errors = [line for line in lines if " error: " in line] or [line for line in lines if "rror:" in line]
    return (errors or lines or ["no output"])[0][:300]
