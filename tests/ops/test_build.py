"""The builder where something is wrong, and with several processes at once.

The fast tests compile nothing. The slow ones compile one line of C++ in place of the operators.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from uniphd.errors import UniPHDError
from uniphd.ops import backend, plan
from uniphd.ops import build as builder
from uniphd.ops.build import build
from uniphd.ops.errors import NativeOpsError
from uniphd.ops.info import settings
from uniphd.ops.plan import cache_folder, find_cached, make_plan


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache; returns the folder of the builds in it."""
    monkeypatch.setenv("UNIPHD_CACHE", str(tmp_path / "cache"))
    return cache_folder()


@pytest.fixture
def not_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a process that has not used the operators yet."""
    monkeypatch.setattr(backend, "_loaded", set())
    monkeypatch.setattr(backend, "_failed", {})


@pytest.fixture
def one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Sources of one line, which compile in seconds; returns the C++ file."""
    source = tmp_path / "csrc" / "cpu" / "one_line.cpp"
    source.parent.mkdir(parents=True)
    source.write_text("int answer() { return 42; }\n")
    monkeypatch.setattr(plan, "source_folder", lambda: source.parents[1])
    return source


@pytest.fixture
def no_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without any program."""
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Compiling takes no time; returns the list of the devices that were compiled for."""
    done: list[str] = []

    def compile_at_once(plan: plan.BuildPlan, timeout: float) -> Path:
        done.append(plan.device)
        library = plan.library(plan.folder)
        library.parent.mkdir(parents=True)
        library.write_text("machine code")
        return library

    monkeypatch.setattr(builder, "_compile", compile_at_once)
    return done


@pytest.fixture
def compiler_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The C++ compiler writes a line here for every file that it compiles."""
    log = tmp_path / "compiled"
    log.touch()
    real = shutil.which("c++")
    if real is None:
        pytest.skip("needs a C++ compiler")
    wrapper = tmp_path / "logging-c++"
    wrapper.write_text(
        f'#!/bin/sh\nfor a in "$@"; do [ "$a" = -c ] && echo . >> "{log}"; done\nexec {real} "$@"\n'
    )
    wrapper.chmod(0o755)
    monkeypatch.setenv("CXX", str(wrapper))
    return log


# No compiler, and what the setting makes of it.


@pytest.mark.usefixtures("cache", "no_compiler")
def test_no_compiler() -> None:
    with pytest.raises(NativeOpsError, match=r"^no C\+\+ compiler: 'c\+\+' is not on the PATH"):
        build("cpu")


@pytest.mark.usefixtures("cache")
def test_compiler_of_the_environment_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler -m64")
    with pytest.raises(NativeOpsError, match="'no-such-compiler -m64' is not on the PATH"):
        build("cpu")


@pytest.mark.usefixtures("cache", "no_compiler", "not_loaded")
def test_auto_falls_back_and_says_why_once(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "uniphd.ops"):
        for _ in range(3):
            assert backend.resolve_backend("cpu", required=False) == "reference"
    (record,) = caplog.records
    message = record.getMessage()
    assert message.startswith("deformable attention on cpu runs its PyTorch reference: no C++")
    assert "\n" not in message


@pytest.mark.usefixtures("cache", "no_compiler", "not_loaded")
def test_native_raises_every_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNIPHD_OPS", "native")
    for _ in range(2):
        with pytest.raises(UniPHDError, match="no C\\+\\+ compiler"):
            backend.resolve_backend("cpu", required=False)
    monkeypatch.setenv("UNIPHD_OPS", "auto")
    with pytest.raises(NativeOpsError):
        backend.resolve_backend("cpu", required=True)


@pytest.mark.usefixtures("not_loaded")
def test_reference_never_builds(
    cache: Path, compiled: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UNIPHD_OPS", "reference")
    assert backend.resolve_backend("cpu", required=False) == "reference"
    assert compiled == []
    assert not cache.exists()


@pytest.mark.usefixtures("not_loaded")
def test_devices_without_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    assert backend.resolve_backend("mps", required=False) == "reference"
    monkeypatch.setenv("UNIPHD_OPS", "native")
    with pytest.raises(NativeOpsError, match="no native operators for 'mps'"):
        backend.resolve_backend("mps", required=False)


@pytest.mark.usefixtures("cache", "compiled", "not_loaded")
def test_a_damaged_library_is_named() -> None:
    with pytest.raises(
        NativeOpsError, match=r"uniphd_ops_cpu\.so does not load, delete it .*: .*file too short"
    ):
        backend.load_native("cpu")


# The cache.


def test_the_second_build_is_the_first(cache: Path, compiled: list[str]) -> None:
    assert build("cpu") == build("cpu")
    assert compiled == ["cpu"]
    assert build("cpu").is_relative_to(cache)


@pytest.mark.usefixtures("one_line")
def test_other_sources_are_another_build(compiled: list[str], cache: Path, one_line: Path) -> None:
    first = build("cpu")
    one_line.write_text("int answer() { return 43; }\n")
    assert build("cpu") != first
    (one_line.parents[1] / "shared.h").write_text("// a header")
    assert len({first, build("cpu")}) == 2
    assert len(compiled) == 3


def test_other_pytorch_is_another_build(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = make_plan("cpu").folder
    monkeypatch.setattr("torch.__version__", "2.99.0")
    assert make_plan("cpu").folder != first


@pytest.mark.usefixtures("compiled")
def test_a_build_needs_no_writing_once_made(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = build("cpu")
    monkeypatch.setattr(builder, "_make_cache", lambda folder: pytest.fail("wrote to the cache"))
    assert build("cpu") == path


def test_cache_that_is_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("UNIPHD_CACHE", str(tmp_path / "file"))
    with pytest.raises(NativeOpsError, match=r"the cache .* is not writable .* set UNIPHD_CACHE"):
        build("cpu")


def test_a_user_without_a_home_is_told_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("UNIPHD_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", no_home)
    with pytest.raises(NativeOpsError, match="no home folder for the cache: set UNIPHD_CACHE"):
        build("cpu")
    assert settings()["cache"].startswith("none (there is no home folder")


def test_read_only_cache(cache: Path) -> None:
    cache.mkdir(parents=True)
    cache.chmod(0o555)
    if os.access(cache, os.W_OK):
        pytest.skip("this user may write everywhere")
    with pytest.raises(NativeOpsError, match=r"is not writable \(Permission denied\)"):
        build("cpu")


@pytest.mark.usefixtures("not_loaded")
def test_auto_falls_back_when_the_disk_is_full(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: object, **kwargs: object) -> str:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(builder.tempfile, "mkdtemp", full)
    with pytest.raises(NativeOpsError, match="No space left on device"):
        build("cpu")
    assert backend.resolve_backend("cpu", required=False) == "reference"


def test_sources_are_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "__file__", str(tmp_path / "lib" / "uniphd" / "ops" / "plan.py"))
    with pytest.raises(NativeOpsError, match=r"sources \(csrc\) are not installed"):
        build("cpu")


def test_folders_left_by_killed_builds_go(cache: Path, compiled: list[str]) -> None:
    for name, age in (("old", 25 * 3600), ("young", 3600)):
        folder = cache / f".build-{name}"
        folder.mkdir(parents=True)
        then = folder.stat().st_mtime - age
        os.utime(folder, (then, then))
    build("cpu")
    assert [path.name for path in cache.glob(".build-*")] == [".build-young"]


@pytest.mark.usefixtures("compiled", "not_loaded")
@pytest.mark.parametrize("level", [0, 1, 2], ids=["library", "folder", "cache"])
@pytest.mark.parametrize("mode", [0o777, 0o775])
def test_what_others_may_change_is_not_loaded(cache: Path, level: int, mode: int) -> None:
    library = build("cpu")
    path = [library, library.parent, cache][level]
    path.chmod(mode)
    with pytest.raises(NativeOpsError, match=rf"{path.name} may be changed by others .* set UNIP"):
        backend.load_native("cpu")
    assert backend.resolve_backend("cpu", required=False) == "reference"


@pytest.mark.usefixtures("compiled", "not_loaded")
def test_what_another_user_has_made_is_not_loaded(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = build("cpu")
    if os.geteuid() == 0:
        os.chown(library, 12345, -1)
    else:
        monkeypatch.setattr(os, "geteuid", lambda: 12345)
    with pytest.raises(NativeOpsError, match=r"belongs to another user .* set UNIPHD_CACHE"):
        backend.load_native("cpu")


@pytest.mark.usefixtures("compiled")
def test_nothing_is_built_into_a_folder_that_others_may_change(cache: Path) -> None:
    cache.mkdir(parents=True)
    cache.chmod(0o777)
    with pytest.raises(NativeOpsError, match="may be changed by others"):
        build("cpu")
    assert not list(cache.iterdir())


def test_a_new_cache_is_the_users_own(cache: Path, compiled: list[str]) -> None:
    before = os.umask(0o002)
    try:
        builder._make_cache(cache)
    finally:
        os.umask(before)
    assert cache.stat().st_mode & 0o777 == 0o755


# The lock.


def lock_path() -> Path:
    folder = make_plan("cpu").folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    return folder.with_name(f"{folder.name}.lock")


def test_a_lock_file_left_behind_means_nothing(cache: Path, compiled: list[str]) -> None:
    lock_path().touch()
    build("cpu", timeout=0.3)
    assert compiled == ["cpu"]


def test_a_lock_that_is_held_has_a_time_out(cache: Path, compiled: list[str]) -> None:
    with lock_path().open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(NativeOpsError, match="another process has been compiling for 0 s"):
            build("cpu", timeout=0.3)
    assert compiled == []


def test_a_killed_owner_loses_the_lock(cache: Path, compiled: list[str]) -> None:
    script = (
        "import fcntl, sys, time; file = open(sys.argv[1], 'w'); "
        "fcntl.flock(file, fcntl.LOCK_EX); print('held', flush=True); time.sleep(100)"
    )
    owner = subprocess.Popen(
        [sys.executable, "-c", script, str(lock_path())], stdout=subprocess.PIPE, text=True
    )
    with owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == "held\n"
        with pytest.raises(NativeOpsError):
            build("cpu", timeout=0.2)
        owner.kill()
    build("cpu", timeout=10)
    assert compiled == ["cpu"]


def test_another_process_was_faster(
    cache: Path, compiled: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The library appears between the first look and the lock."""
    path = build("cpu")
    looks: list[Path | None] = [None]
    monkeypatch.setattr(
        builder, "find_cached", lambda plan: looks.pop() if looks else find_cached(plan)
    )
    assert build("cpu") == path
    assert compiled == ["cpu"]


# Compiling.


@pytest.mark.usefixtures("one_line")
def test_compilers_have_a_time_out(cache: Path) -> None:
    with pytest.raises(NativeOpsError, match="compilers were stopped after 0 s"):
        build("cpu", timeout=0.2)
    assert not list(cache.glob(".build-*"))
    assert find_cached(make_plan("cpu")) is None


@pytest.mark.slow
@pytest.mark.usefixtures("one_line")
def test_a_build_leaves_a_library_and_a_record(cache: Path, compiler_log: Path) -> None:
    path = build("cpu")
    assert path.read_bytes().startswith((b"\x7fELF", b"\xcf\xfa\xed\xfe"))
    assert json.loads((path.parent / "build.json").read_text())["seconds"] > 0
    assert not list(cache.glob(".build-*"))
    assert compiler_log.read_text() == ".\n"


@pytest.mark.slow
@pytest.mark.usefixtures("not_loaded")
def test_broken_source(cache: Path, one_line: Path) -> None:
    one_line.write_text("int answer() { return forty_two; }\n")
    with pytest.raises(NativeOpsError) as failure:
        build("cpu")
    reason, *log = str(failure.value).splitlines()
    assert reason.startswith("compiling for cpu failed: ")
    assert "one_line.cpp" in reason
    assert "error:" in reason
    assert "forty_two" in reason
    assert 1 <= len(log) <= 20
    assert find_cached(make_plan("cpu")) is None
    assert not list(cache.glob(".build-*"))
    one_line.write_text("int answer() { return 42; }\n")  # mended: no memory of the failure
    assert build("cpu").is_file()


@pytest.mark.slow
def test_a_library_that_does_not_load_is_not_kept(cache: Path, one_line: Path) -> None:
    one_line.write_text("int elsewhere();\nint answer() { return elsewhere(); }\n")
    with pytest.raises(NativeOpsError, match=r"does not load: .*undefined symbol.*elsewhere"):
        build("cpu")
    assert find_cached(make_plan("cpu")) is None


RUN_BUILD = """
import sys
from pathlib import Path
from uniphd.ops import plan
from uniphd.ops.build import build
plan.source_folder = lambda: Path(sys.argv[1])
print("ready", flush=True)
try:
    print(build("cpu"))
except Exception as error:
    print(type(error).__name__, str(error).splitlines()[0])
"""


def build_in_two_processes(csrc: Path) -> list[str]:
    """What two builds say that start while a third process holds the lock."""
    command = [sys.executable, "-c", RUN_BUILD, str(csrc)]
    with lock_path().open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        # Both have now begun; they look at the lock ten times a second.
        with pytest.raises(subprocess.TimeoutExpired):
            processes[0].wait(1.0)
        assert processes[1].poll() is None
    return [process.communicate(timeout=300)[0].strip() for process in processes]


@pytest.mark.slow
def test_of_two_processes_one_compiles(cache: Path, one_line: Path, compiler_log: Path) -> None:
    said = build_in_two_processes(one_line.parents[1])
    assert said == [str(make_plan("cpu").library(make_plan("cpu").folder))] * 2
    assert compiler_log.read_text() == ".\n"


@pytest.mark.slow
def test_of_two_processes_one_fails_for_both(
    cache: Path, one_line: Path, compiler_log: Path
) -> None:
    one_line.write_text("int answer() { return forty_two; }\n")
    said = build_in_two_processes(one_line.parents[1])
    assert said[0].startswith("NativeOpsError compiling for cpu failed: ")
    assert said[0] == said[1]
    assert compiler_log.read_text() == ".\n"


@pytest.mark.slow
def test_importing_compiles_nothing(cache: Path) -> None:
    code = "import sys, uniphd.ops; assert 'torch.utils.cpp_extension' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
    assert not cache.exists()


def test_a_long_log_is_cut_to_its_last_lines() -> None:
    lines = [f"line {number}" for number in range(100)]
    error = NativeOpsError("the reason", "\n".join(lines))
    assert error.reason == "the reason"
    assert str(error).splitlines() == ["the reason", *lines[-20:]]
