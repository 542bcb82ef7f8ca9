"""The command `uniphd-ops`."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from uniphd.cli import ops
from uniphd.ops import backend
from uniphd.ops.backend import load_native
from uniphd.ops.bench import Timing, interleaved_medians, make_example
from uniphd.ops.check import CheckResult, check_native
from uniphd.ops.examples import Example
from uniphd.ops.memory import peak_memory


@pytest.fixture(autouse=True)
def default_mode(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a user starts it, on a machine without a GPU."""
    monkeypatch.delenv("UNIPHD_OPS", raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


@pytest.fixture
def native() -> None:
    """The native CPU operators; compiles them once into the user's cache."""
    if shutil.which(os.environ.get("CXX", "c++").split()[0]) is None:
        pytest.skip("needs a C++ compiler")
    load_native("cpu")


@pytest.fixture
def no_native(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without a compiler and without a build."""
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("UNIPHD_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(backend, "_loaded", set())
    monkeypatch.setattr(backend, "_failed", {})


@pytest.mark.usefixtures("native")
def test_build_finds_what_is_built(capsys: pytest.CaptureFixture[str]) -> None:
    ops.main(["build"])
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("cpu: ")
    assert line.endswith("uniphd_ops_cpu.so (found in the cache)")


def test_build_says_where_and_how_long(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UNIPHD_CACHE", str(tmp_path))
    calls = []

    def build(device: str, *, archs: list[str] | None) -> Path:
        calls.append((device, archs))
        return tmp_path / f"{device}.so"

    monkeypatch.setattr(ops, "build", build)
    ops.main(["build", "--device", "cuda", "--arch", "9.0", "--arch", "8.0"])
    assert calls == [("cpu", None), ("cuda", ["9.0", "8.0"])]
    out = capsys.readouterr().out
    assert f"cpu: {tmp_path}/cpu.so (compiled in 0.0 s)\n" in out
    assert f"cuda: {tmp_path}/cuda.so (compiled in 0.0 s)\n" in out


@pytest.mark.usefixtures("no_native")
@pytest.mark.parametrize("command", ["build", "bench"])
def test_errors_are_one_line(command: str) -> None:
    with pytest.raises(SystemExit) as stop:
        ops.main([command])
    assert str(stop.value).startswith("uniphd-ops: no C++ compiler")
    assert "\n" not in str(stop.value)


@pytest.mark.usefixtures("native")
def test_check_has_a_line_for_every_dtype(capsys: pytest.CaptureFixture[str]) -> None:
    ops.main(["check"])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(" (")[0] for line in lines] == [
        f"cpu {name}: ok" for name in ("float32", "float64", "float16", "bfloat16")
    ]


@pytest.mark.usefixtures("no_native")
def test_check_without_native(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        ops.main(["check"])
    assert stop.value.code == 1
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("cpu: native operators are not available: no C++ compiler")


@pytest.mark.usefixtures("native")
@pytest.mark.parametrize("part", range(4))
def test_check_finds_a_wrong_result(
    part: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    right = Example.forward_backward

    def wrong(self: Example, which: str) -> tuple[torch.Tensor, ...]:
        results = right(self, which)
        if which == "native":
            results[part].flatten()[3] += 0.1 * results[part].abs().max()
        return results

    monkeypatch.setattr(Example, "forward_backward", wrong)
    with pytest.raises(SystemExit) as stop:
        ops.main(["check"])
    assert stop.value.code == 1
    assert capsys.readouterr().out.count(": WRONG (errors: ") == 4


@pytest.mark.usefixtures("native")
def test_check_does_not_take_nan_for_right() -> None:
    result = check_native("cpu", torch.float32)
    assert result.passed
    nan = replace(result, errors={**result.errors, "value": float("nan")})
    assert isinstance(nan, CheckResult)
    assert not nan.passed


@pytest.mark.usefixtures("native")
def test_info(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    ops.main(["info"])
    out = capsys.readouterr().out
    pairs = {name: text.strip() for name, _, text in (x.partition(":") for x in out.splitlines())}
    assert pairs["torch"] == torch.__version__
    assert {"uniphd", "python", "platform", "compiler", "nvcc", "cache"} <= pairs.keys()
    assert pairs["backend on cpu"].startswith(f"native ({pairs['cache']}")
    monkeypatch.setenv("UNIPHD_OPS", "reference")
    ops.main(["info"])
    out = capsys.readouterr().out
    assert "backend on cpu:       reference (UNIPHD_OPS=reference)\n" in out
    monkeypatch.setenv("UNIPHD_OPS", "fast")
    ops.main(["info"])
    assert "none (UNIPHD_OPS is 'fast'; set it to" in capsys.readouterr().out


@pytest.mark.usefixtures("no_native")
def test_info_without_native(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    ops.main(["info"])
    assert "backend on cpu:       reference (no C++ compiler" in capsys.readouterr().out
    monkeypatch.setenv("UNIPHD_OPS", "native")
    ops.main(["info"])
    assert "backend on cpu:       none (no C++ compiler" in capsys.readouterr().out


@pytest.mark.usefixtures("native")
def test_bench(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    threads = torch.get_num_threads()
    path = tmp_path / "new" / "results.json"
    command = ["bench", "--shape", "decoder", "--repeats", "1", "--threads", "1"]
    ops.main([*command, "--json", str(path)])
    assert torch.get_num_threads() == threads
    out = capsys.readouterr().out
    assert "forward+backward" in out
    results = json.loads(path.read_text())
    assert (results["threads"], results["batch"], results["dtype"]) == (1, 1, "float32")
    assert [timing["direction"] for timing in results["timings"]] == ["forward", "forward+backward"]
    for timing in results["timings"]:
        assert timing["native_seconds"] > 0
        expected = timing["reference_seconds"] / timing["native_seconds"]
        assert timing["ratio"] == pytest.approx(expected)
    output, value, samples = 360 * 256 * 4, 8500 * 256 * 4, 360 * 8 * 4 * 4 * 4
    sizes = [timing["result_bytes"] for timing in results["timings"]]
    assert sizes == [output, output + value + 3 * samples]


def test_bench_cannot_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ops, "bench_shape", lambda *a, **k: [])
    (tmp_path / "file").touch()
    with pytest.raises(SystemExit, match=r"uniphd-ops: cannot write .*results\.json: "):
        ops.main(["bench", "--json", str(tmp_path / "file" / "results.json")])


def test_bench_without_a_gpu() -> None:
    with pytest.raises(SystemExit, match="uniphd-ops: PyTorch sees no CUDA device"):
        ops.main(["bench", "--device", "cuda"])


@pytest.mark.parametrize("option", ["--repeats", "--threads", "--batch"])
def test_bench_refuses_zero(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        ops.main(["bench", option, "0"])
    assert "0 is not a positive number" in capsys.readouterr().err


def test_calls_are_interleaved_and_medians_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    order: list[str] = []
    durations = {"a": iter([1.0, 9.0, 2.0]), "b": iter([5.0, 4.0, 30.0])}

    def call(name: str) -> None:
        order.append(name)
        clock[0] += next(durations[name])

    monkeypatch.setattr("time.perf_counter", lambda: clock[0])
    assert interleaved_medians((lambda: call("a"), lambda: call("b")), 3) == [2.0, 5.0]
    assert order == ["a", "b"] * 3


def test_table_fits_a_narrow_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    timing = Timing("encoder", "forward+backward", 0.27412, 4.74159, 30500000, 456800000, 30500000)
    monkeypatch.setattr(ops, "bench_shape", lambda *a, **k: [timing])
    ops.main(["bench", "--shape", "encoder"])
    cells = capsys.readouterr().out.splitlines()[-1].split()
    assert cells == [
        *("encoder", "forward+backward", "274.12", "4741.59", "17.3", "30.5", "30.5", "456.8")
    ]


def test_ratio_says_how_much_faster_native_is() -> None:
    assert Timing("encoder", "forward", 0.5, 4.0, None, None, 0).ratio == 8.0


def test_shapes_of_the_benchmark() -> None:
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
