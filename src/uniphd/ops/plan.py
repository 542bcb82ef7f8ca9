"""What a native library is compiled from, and where in the cache it belongs."""

from __future__ import annotations

import hashlib
import os
import platform
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from uniphd.ops.errors import NativeOpsError
from uniphd.ops.toolchain import (
    arch_flags,
    archs_cover,
    cuda_archs,
    parse_archs,
    simd_flags,
    visible_capabilities,
)

NATIVE_DEVICES = ("cpu", "cuda")


@dataclass(frozen=True)
class BuildPlan:
    """One library: the CPU kernels with the schemas, or the CUDA kernels.

    Attributes:
        device: "cpu" or "cuda".
        sources: the files to compile.
        cflags: flags of the C++ compiler.
        cuda_flags: flags of nvcc.
        ldflags: flags of the linker.
        archs: the GPU architectures, empty for the CPU.
        key: hash of the sources' contents, the flags, PyTorch, CUDA and the Python ABI.
    """

    device: str
    sources: tuple[Path, ...]
    cflags: tuple[str, ...]
    cuda_flags: tuple[str, ...]
    ldflags: tuple[str, ...]
    archs: tuple[str, ...]
    key: str

    @property
    def name(self) -> str:
        """The library's name without its ending."""
        return f"uniphd_ops_{self.device}"

    @property
    def folder(self) -> Path:
        """The library's folder in the cache."""
        parts = [self.device, self.key, *(["_".join(self.archs)] if self.archs else [])]
        return cache_folder() / "-".join(parts)

    def library(self, folder: Path) -> Path:
        """The library's file in a folder."""
        return folder / f"{self.name}.so"


def cache_folder() -> Path:
    """Returns the folder of all builds: in ``UNIPHD_CACHE``, else in the user's cache folder.

    Raises:
        NativeOpsError: The user has no home, as in a container under a number without a name.
    """
    if os.environ.get("UNIPHD_CACHE"):
        return Path(os.environ["UNIPHD_CACHE"]) / "ops"
    try:
        base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    except RuntimeError as error:
        raise NativeOpsError(
            "there is no home folder for the cache: set UNIPHD_CACHE to a folder"
        ) from error
    return Path(base) / "uniphd" / "ops"


def source_folder() -> Path:
    """Returns ``csrc``: inside the package in a wheel, at the top of the repository otherwise.

    Raises:
        NativeOpsError: Neither is there.
    """
    here = Path(__file__).resolve()
    for folder in (here.parents[1] / "csrc", here.parents[3] / "csrc"):
        if (folder / "bilinear.h").is_file():
            return folder
    raise NativeOpsError("the operators' C++ sources (csrc) are not installed")


def make_plan(device: str, archs: Sequence[str] | None = None) -> BuildPlan:
    """Returns how to build the library of a device.

    Args:
        device: "cpu" or "cuda".
        archs: GPU architectures such as "9.0" or "9.0+PTX"; None is those of
            ``TORCH_CUDA_ARCH_LIST``, of the visible devices, or a default list.

    Raises:
        NativeOpsError: The sources are missing, or the device or an architecture is unknown.
    """
    if device not in NATIVE_DEVICES:
        raise NativeOpsError(f"there are no native operators for {device!r} tensors")
    root = source_folder()
    cflags: tuple[str, ...] = ("-O3",)
    cuda_flags: tuple[str, ...] = ()
    ldflags: tuple[str, ...] = ()
    if device == "cpu":
        # Without the two -fno flags the compiler vectorises no conditional on floats.
        cflags += ("-fno-trapping-math", "-fno-math-errno", *simd_flags())
        sources = tuple(sorted((root / "cpu").glob("*.cpp")))
        if sys.platform == "linux":
            cflags += ("-fopenmp",)
            ldflags += ("-fopenmp",)
        else:  # Apple's compiler has no OpenMP runtime: vectors, but one thread
            cflags += ("-fopenmp-simd",)
    else:
        cuda_flags = ("-O3",)
        sources = tuple(sorted([*(root / "cuda").glob("*.cpp"), *(root / "cuda").glob("*.cu")]))
    flags = (*cflags, *cuda_flags, *ldflags)
    chosen = () if device == "cpu" else cuda_archs() if archs is None else parse_archs(archs)
    return BuildPlan(
        device=device,
        sources=sources,
        cflags=cflags,
        cuda_flags=(*cuda_flags, *arch_flags(chosen)),
        ldflags=ldflags,
        archs=chosen,
        key=_key(root, device, flags),
    )


def _key(root: Path, device: str, flags: Sequence[str]) -> str:
    digest = hashlib.sha256()
    environment = (
        torch.__version__,
        torch.version.cuda,
        torch.compiled_with_cxx11_abi(),
        sys.implementation.cache_tag,
        platform.system(),
        platform.machine(),
    )
    digest.update(repr((environment, flags)).encode())
    files = [path for path in root.glob("*") if path.is_file()]
    files += [path for path in (root / device).rglob("*") if path.is_file()]
    for path in sorted(files):
        digest.update(str(path.relative_to(root)).encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]


def find_cached(plan: BuildPlan) -> Path | None:
    """Returns a library in the cache that serves the plan, or None.

    A library for more architectures than the visible devices have serves too: one built ahead of
    time on a machine without a GPU.
    """
    exact = plan.library(plan.folder)
    if exact.is_file():
        return exact
    visible = visible_capabilities() if plan.device == "cuda" else []
    if not visible:
        return None
    for folder in sorted(cache_folder().glob(f"{plan.device}-{plan.key}-*")):
        archs = folder.name.split("-", 2)[2].split("_")
        if plan.library(folder).is_file() and archs_cover(archs, visible):
            return plan.library(folder)
    return None
