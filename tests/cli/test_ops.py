"""The command `uniphd-ops`."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from uniphd.cli import ops
from uniphd.ops import backend
from uniphd.ops.backend import load_native
from uniphd.ops.check import CheckResult, check_native
from uniphd.ops.examples import Example


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
def test_errors_are_one_line() -> None:
    with pytest.raises(SystemExit) as stop:
        ops.main(["build"])
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
