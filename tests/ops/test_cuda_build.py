"""The CUDA sources compile, link and load with nvcc; no GPU is needed for that."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from uniphd.ops.build import build
from uniphd.ops.errors import NativeOpsError
from uniphd.ops.toolchain import archs_cover, find_cuda

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def needs_nvcc() -> None:
    try:
        find_cuda()
    except NativeOpsError as error:
        pytest.skip(f"needs nvcc: {error.reason}")


def test_the_library_compiles_for_hopper_and_loads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UNIPHD_CACHE", str(tmp_path))
    library = build("cuda", archs=["9.0"])
    record = json.loads((library.parent / "build.json").read_text())
    assert record["archs"] == ["9.0"]
    assert archs_cover(record["archs"], [(9, 0)])
    symbols = subprocess.run(
        ["nm", "-C", str(library)], capture_output=True, text=True, check=True
    ).stdout
    assert "uniphd::cuda::forward(" in symbols
    assert "uniphd::cuda::backward(" in symbols


@pytest.mark.parametrize("arch", ["7.5", "8.0", "12.0"])
@pytest.mark.parametrize("kernel", ["forward.cu", "backward.cu"])
def test_kernels_compile_for_other_generations(tmp_path: Path, kernel: str, arch: str) -> None:
    """Turing and Ampere have no 16-byte atomics; Blackwell is newer than what was planned for."""
    toolkit = find_cuda()
    source = Path(__file__).parents[2] / "csrc" / "cuda" / kernel
    nvcc = toolkit.home / "bin" / "nvcc"
    number = arch.replace(".", "")
    known = subprocess.run([nvcc, "--list-gpu-code"], capture_output=True, text=True, check=True)
    if f"sm_{number}" not in known.stdout.split():
        pytest.skip(f"this nvcc does not know sm_{number}")
    include = [f"-I{folder}" for folder in toolkit.include]
    options = ["-std=c++17", f"-arch=sm_{number}", *include]
    subprocess.run([nvcc, *options, "-c", source, "-o", tmp_path / "kernel.o"], check=True)
