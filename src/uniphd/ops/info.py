"""What a bug report about the operators should say: versions, compilers, cache, backend."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys

import torch

from uniphd import __version__
from uniphd.errors import UniPHDError
from uniphd.ops.backend import configured_mode, load_native
from uniphd.ops.build import build
from uniphd.ops.errors import NativeOpsError
from uniphd.ops.plan import cache_folder
from uniphd.ops.toolchain import check_cxx, cuda_archs, find_cuda, nvcc_release


def versions() -> dict[str, str]:
    """Returns names and versions of what the operators are built with and run on."""
    found = {
        "uniphd": __version__,
        "python": f"{platform.python_version()} ({sys.implementation.name})",
        "torch": str(torch.__version__),
        "platform": platform.platform(),
        "processor": _processor(),
        "cpu capability": torch.backends.cpu.get_cpu_capability(),
        "threads": f"{torch.get_num_threads()} of {os.cpu_count()}",
        "compiler": _compiler(),
        "ninja": shutil.which("ninja") or "not on the PATH",
        "cuda of torch": torch.version.cuda or "none",
        "nvcc": _nvcc(),
    }
    for index in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        major, minor = torch.cuda.get_device_capability(index)
        found[f"cuda:{index}"] = f"{torch.cuda.get_device_name(index)}, capability {major}.{minor}"
    return found


def settings() -> dict[str, str]:
    """Returns the settings that choose the backend and the builds."""
    names = ("UNIPHD_OPS", "UNIPHD_CACHE", "CXX", "CUDA_HOME", "TORCH_CUDA_ARCH_LIST")
    found = {name: os.environ[name] for name in names if name in os.environ}
    try:
        cache = str(cache_folder())
    except NativeOpsError as error:
        cache = f"none ({error})"
    return {"cache": cache, **found}


def describe_backend(device: str) -> str:
    """Returns which implementation runs on a device and why; builds it as a first call would."""
    try:
        mode = configured_mode()
    except UniPHDError as error:
        return f"none ({error})"
    if mode == "reference":
        return "reference (UNIPHD_OPS=reference)"
    try:
        load_native(device)
        return f"native ({build(device)})"
    except NativeOpsError as error:
        return f"{'none' if mode == 'native' else 'reference'} ({error.reason})"


def _compiler() -> str:
    try:
        program = check_cxx().split()
        said = subprocess.run(
            [*program, "--version"], capture_output=True, text=True, timeout=60, check=False
        )
    except NativeOpsError as error:
        return error.reason
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"does not run: {error}"
    lines = said.stdout.splitlines()
    return f"{lines[0] if lines else 'says no version'} ({shutil.which(program[0])})"


def _nvcc() -> str:
    try:
        toolkit = find_cuda()
        return f"{nvcc_release(toolkit.home)} ({toolkit.home}), for {' '.join(cuda_archs())}"
    except NativeOpsError as error:
        return error.reason


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            names = [line.partition(":")[2] for line in file if line.startswith("model name")]
    except OSError:
        names = []
    return names[0].strip() if names else platform.processor() or platform.machine()
