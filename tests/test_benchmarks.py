"""The benchmarks beside the package, as far as their numbers can be checked."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from benchmarks.memory import peak_memory
from benchmarks.ops_inputs import make_example

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.mark.slow
def test_every_benchmark_imports() -> None:
    modules = ", ".join(path.stem for path in BENCHMARKS.glob("*.py"))
    subprocess.run([sys.executable, "-c", f"import {modules}"], cwd=BENCHMARKS, check=True)


@pytest.mark.slow
def test_the_operator_is_timed_against_the_reference(tmp_path: Path) -> None:
    script, path = BENCHMARKS / "ops_cpu.py", tmp_path / "results.json"
    command = [sys.executable, script, "--shape", "decoder", "--repeats", "1", "--threads", "1"]
    subprocess.run([*command, "--json", path], check=True, capture_output=True)
    rows = json.loads(path.read_text())["rows"]
    assert [row["direction"] for row in rows] == ["forward", "forward+backward"]
    output, value, samples = 360 * 256 * 4, 8500 * 256 * 4, 360 * 8 * 4 * 4 * 4
    sizes = [row["result MB"] * 1e6 for row in rows]
    assert sizes == pytest.approx([output, output + value + 3 * samples])
    assert all(
        row["ratio"] == pytest.approx(row["reference ms"] / row["native ms"]) for row in rows
    )


def test_operator_inputs_have_the_sizes_of_an_image() -> None:
    encoder, decoder = make_example("encoder"), make_example("decoder", batch=2)
    assert encoder.value.shape == (1, 8500, 8, 32)
    assert encoder.locations.shape == (1, 8500, 8, 4, 4, 2)
    assert decoder.locations.shape == (2, 360, 8, 4, 4, 2)
    # Each encoder query samples about two cells around its own: x and y are not exchanged.
    first_row = encoder.locations[0, :80, :, 0].mean((1, 2))
    torch.testing.assert_close(first_row[:, 0], (torch.arange(80) + 0.5) / 80, atol=0.03, rtol=0)
    assert first_row[:, 1].mean() < 0.02


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="only Linux tells the peak")
def test_peak_memory_counts_what_is_freed_again() -> None:
    size = 64 * 2**20
    peak = peak_memory(lambda: torch.ones(size, dtype=torch.uint8).max(), "cpu")
    assert peak is not None
    assert size * 0.95 <= peak <= size * 1.2
