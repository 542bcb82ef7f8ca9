"""Finds the compilers, CUDA's headers and libraries, and the GPU architectures to compile for."""

from __future__ import annotations

import importlib.util
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from uniphd.ops.errors import NativeOpsError

# For a machine without a visible GPU: A100, RTX 30, RTX 40, H100; newer ones compile the PTX.
DEFAULT_ARCHS = ("8.0", "8.6", "8.9", "9.0+PTX")
_ARCH = re.compile(r"(\d+)\.(\d+)([a-z]?)(\+PTX)?")


@dataclass(frozen=True)
class CudaToolkit:
    """An nvcc, and where the headers and the runtime library that go with it are.

    Attributes:
        home: what ``torch.utils.cpp_extension`` calls CUDA_HOME; ``bin/nvcc`` is in it.
        include: folders to add because ``home`` holds no headers.
        runtime: the runtime library to link with because ``home`` holds none.
    """

    home: Path
    include: tuple[Path, ...]
    runtime: Path | None


def simd_flags() -> tuple[str, ...]:
    """Returns the compiler flags for the vector instructions that PyTorch uses on this processor.

    Named instruction sets, not ``-march=native``: a cache shared by the machines of a cluster
    would otherwise hand a library to a processor that cannot run it.
    """
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return ()
    if torch.backends.cpu.get_cpu_capability() in ("AVX2", "AVX512"):
        return ("-mavx2", "-mfma", "-mf16c")
    return ()


def check_cxx() -> str:
    """Returns the C++ compiler that PyTorch will call (``CXX``, else ``c++``).

    Raises:
        NativeOpsError: There is none, or this system's native operators are not supported.
    """
    if sys.platform == "win32":
        raise NativeOpsError("native operators are built on Linux and macOS only")
    compiler = os.environ.get("CXX", "c++")
    if shutil.which(compiler.split()[0]) is None:
        raise NativeOpsError(f"no C++ compiler: {compiler!r} is not on the PATH (set CXX)")
    return compiler


def find_cuda() -> CudaToolkit:
    """Returns the CUDA toolkit of ``CUDA_HOME``, of the nvcc on the PATH, or a pip-installed one.

    Raises:
        NativeOpsError: PyTorch has no CUDA, there is no nvcc, or its version is not PyTorch's.
    """
    if torch.version.cuda is None:
        raise NativeOpsError("this PyTorch was built without CUDA")
    home = next((home for home in _cuda_homes() if (home / "bin" / "nvcc").is_file()), None)
    if home is None:
        raise NativeOpsError("no CUDA compiler: put nvcc on the PATH or set CUDA_HOME")
    release = nvcc_release(home)
    if release.split(".")[0] != torch.version.cuda.split(".")[0]:
        raise NativeOpsError(
            f"{home}/bin/nvcc is CUDA {release} and PyTorch was built for {torch.version.cuda}: "
            "set CUDA_HOME to a toolkit of the same major version"
        )
    has_headers = (home / "include" / "cuda_runtime.h").is_file()
    has_runtime = any((home / folder / "libcudart.so").exists() for folder in ("lib64", "lib"))
    return CudaToolkit(
        home=home,
        include=() if has_headers else tuple(_pip_folders("include")),
        runtime=None if has_runtime else _pip_runtime(),
    )


def nvcc_release(home: Path) -> str:
    """Returns the version of a toolkit's nvcc, such as "13.0"."""
    said = _ask(home / "bin" / "nvcc", "--version")
    found = re.search(r"release (\d+\.\d+)", said)
    if found is None:
        raise NativeOpsError(f"{home}/bin/nvcc --version does not run", said)
    return found.group(1)


def _cuda_homes() -> Iterator[Path]:
    for variable in ("CUDA_HOME", "CUDA_PATH"):
        if os.environ.get(variable):
            yield Path(os.environ[variable])
    nvcc = shutil.which("nvcc")
    if nvcc is not None:
        # The file on the PATH may be a script or a link; nvcc itself knows where its toolkit is.
        top = re.search(r"\bTOP=(.+)", _ask(Path(nvcc), "--dryrun", "x.cu"))
        if top is not None:
            yield Path(top.group(1).strip()).resolve()
        yield Path(nvcc).resolve().parent.parent
    yield Path("/usr/local/cuda")
    yield from (folder.parent for folder in _pip_folders("bin"))


def _ask(program: Path, *arguments: str) -> str:
    try:
        done = subprocess.run(
            [str(program), *arguments], capture_output=True, text=True, timeout=60, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    return done.stdout + done.stderr


def _pip_folders(name: str) -> Iterator[Path]:
    """Folders such as nvidia/cu13/include (CUDA 13) and nvidia/cuda_runtime/include (CUDA 12)."""
    spec = importlib.util.find_spec("nvidia")
    for root in (spec.submodule_search_locations or ()) if spec else ():
        for package in ("cu*[0-9]", "cuda_runtime", "cuda_nvcc", "cuda_cccl"):
            yield from sorted(Path(root).glob(f"{package}/{name}"))


def _pip_runtime() -> Path | None:
    for folder in _pip_folders("lib"):
        for library in sorted(folder.glob("libcudart.so*")):
            return library
    return None


def cuda_archs() -> tuple[str, ...]:
    """Returns architectures such as ("8.6", "9.0+PTX").

    Those of ``TORCH_CUDA_ARCH_LIST`` if it is set, else of the visible devices, else a default.
    """
    listed = os.environ.get("TORCH_CUDA_ARCH_LIST", "")
    if listed and listed != "native":
        return parse_archs(re.split(r"[ ;,]+", listed.strip()))
    visible = sorted(set(visible_capabilities()))
    if not visible:
        return DEFAULT_ARCHS
    names = [f"{major}.{minor}" for major, minor in visible]
    return (*names[:-1], names[-1] + "+PTX")


def visible_capabilities() -> list[tuple[int, int]]:
    """Returns the compute capability of each visible CUDA device."""
    if not torch.cuda.is_available():
        return []
    return [torch.cuda.get_device_capability(i) for i in range(torch.cuda.device_count())]


def parse_archs(names: Sequence[str]) -> tuple[str, ...]:
    """Returns the architectures sorted and without duplicates.

    Raises:
        NativeOpsError: One is not written like 9.0, 9.0a or 9.0+PTX.
    """
    for name in names:
        if _ARCH.fullmatch(name) is None:
            raise NativeOpsError(f"unknown CUDA architecture {name!r}: write 9.0 or 9.0+PTX")
    return tuple(sorted(set(names), key=_arch_order))


def arch_flags(archs: Sequence[str]) -> tuple[str, ...]:
    """Returns nvcc's flags for the architectures."""
    flags = []
    for name in archs:
        number = name.removesuffix("+PTX").replace(".", "")
        flags.append(f"-gencode=arch=compute_{number},code=sm_{number}")
        if name.endswith("+PTX"):
            flags.append(f"-gencode=arch=compute_{number},code=compute_{number}")
    return tuple(flags)


def archs_cover(archs: Sequence[str], capabilities: Sequence[tuple[int, int]]) -> bool:
    """Tells whether code for ``archs`` runs on devices of all the ``capabilities``.

    Machine code runs on the same major and a later minor version, PTX on every later one.
    """
    return all(any(_runs_on(arch, wanted) for arch in archs) for wanted in capabilities)


def _runs_on(arch: str, wanted: tuple[int, int]) -> bool:
    major, minor, suffix, ptx = _arch_order(arch)
    if suffix:
        return (major, minor) == wanted
    return (major == wanted[0] and minor <= wanted[1]) or (ptx and (major, minor) <= wanted)


def _arch_order(name: str) -> tuple[int, int, str, bool]:
    found = _ARCH.fullmatch(name)
    if found is None:
        return (0, 0, "", False)
    major, minor, suffix, ptx = found.groups()
    return int(major), int(minor), suffix, ptx is not None
