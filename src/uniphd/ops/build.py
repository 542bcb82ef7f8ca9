"""Compiles the native operators on first use and keeps the libraries in a cache of our own.

``torch.utils.cpp_extension`` compiles in a process of its own and in a temporary folder, loads the
library there as a proof, and only then is the folder renamed into the cache: a broken compiler, a
killed job or a full disk leaves no half-made library behind and does not take down the caller.
Of several processes that want the same library one gets the lock and compiles, the others wait,
whatever their rank. The lock belongs to an open file, so that the operating system releases it
with its owner; a lock file left behind means nothing.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from filelock import FileLock, Timeout

from uniphd.ops.errors import NativeOpsError
from uniphd.ops.plan import BuildPlan, find_cached, make_plan
from uniphd.ops.toolchain import CudaToolkit, check_cxx, find_cuda
from uniphd.ops.trust import require_own

TIMEOUT_SECONDS = 900.0
_ABANDONED_SECONDS = 24 * 3600.0
_ONLY_OWN = 0o755  # only the owner may write


def build(
    device: str, *, archs: Sequence[str] | None = None, timeout: float = TIMEOUT_SECONDS
) -> Path:
    """Returns the native library of a device; compiles it if the cache has none.

    Args:
        device: "cpu" or "cuda".
        archs: GPU architectures such as "9.0"; None chooses them (see ``make_plan``).
        timeout: seconds to wait for another process that compiles, and again to compile.

    Raises:
        NativeOpsError: The library cannot be built here, or another user has made it; the reason is
            one line, and the message ends with the compiler's last lines.
    """
    plan = make_plan(device, archs)
    found = _find_own(plan)
    if found is not None:
        return found
    try:
        return _build_once(plan, timeout)
    except OSError as error:  # the disk is full, or a file in a shared cache is another user's
        raise NativeOpsError(f"the cache {plan.folder.parent} cannot be used: {error}") from error


def _find_own(plan: BuildPlan) -> Path | None:
    """A library in the cache that serves the plan and that nobody else can have put there."""
    found = find_cached(plan)
    if found is not None:
        require_own(found, found.parent, found.parent.parent)
    return found


def _build_once(plan: BuildPlan, timeout: float) -> Path:
    """Compiles under the lock, unless another process has done so in the meantime."""
    started = time.time()
    _make_cache(plan.folder.parent)
    with _lock(plan.folder.with_name(f"{plan.folder.name}.lock"), timeout):
        found = _find_own(plan)
        if found is not None:
            return found
        _raise_failure_since(started, plan)
        try:
            return _compile(plan, timeout)
        except NativeOpsError as error:
            _failure_file(plan).write_text(str(error), encoding="utf-8")
            raise


def _make_cache(folder: Path) -> None:
    try:
        folder.mkdir(mode=_ONLY_OWN, parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise NativeOpsError(
            f"the cache {folder} is not writable ({error.strerror}): set UNIPHD_CACHE to a folder"
        ) from error
    require_own(folder)
    for left in folder.glob(".build-*"):  # of a process that was killed
        with contextlib.suppress(OSError):
            if time.time() - left.stat().st_mtime > _ABANDONED_SECONDS:
                shutil.rmtree(left, ignore_errors=True)


@contextlib.contextmanager
def _lock(path: Path, timeout: float) -> Iterator[None]:
    held: AbstractContextManager[object]
    try:
        held = FileLock(path, timeout=timeout, poll_interval=0.1).acquire()
    except Timeout:
        raise NativeOpsError(
            f"another process has been compiling for {timeout:.0f} s (lock {path})"
        ) from None
    except NotImplementedError:  # a file system without locks: both compile, the first rename wins
        held = contextlib.nullcontext()
    with held:
        yield


def _failure_file(plan: BuildPlan) -> Path:
    return plan.folder.with_name(f"{plan.folder.name}.failed")


def _raise_failure_since(started: float, plan: BuildPlan) -> None:
    """Spares the processes that waited a second try at what just failed."""
    with contextlib.suppress(FileNotFoundError):
        if _failure_file(plan).stat().st_mtime >= started:
            reason, _, log = _failure_file(plan).read_text(encoding="utf-8").partition("\n")
            raise NativeOpsError(reason, log)


def _compile(plan: BuildPlan, timeout: float) -> Path:
    check_cxx()
    toolkit = find_cuda() if plan.device == "cuda" else None
    scratch = Path(tempfile.mkdtemp(prefix=".build-", dir=plan.folder.parent))
    started = time.monotonic()
    try:
        _run_worker(plan, toolkit, scratch, timeout)
        record = {
            "archs": plan.archs,
            "cflags": plan.cflags,
            "cuda_home": str(toolkit.home) if toolkit else None,
            "seconds": round(time.monotonic() - started, 1),
        }
        (scratch / "build.json").write_text(json.dumps(record), encoding="utf-8")
        for made in scratch.glob("*.o"):
            made.unlink()
        for made in (scratch, plan.library(scratch)):
            made.chmod(_ONLY_OWN)
        with contextlib.suppress(OSError):  # it exists: another process was first
            scratch.rename(plan.folder)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return plan.library(plan.folder)


def _run_worker(
    plan: BuildPlan, toolkit: CudaToolkit | None, scratch: Path, timeout: float
) -> None:
    environment = dict(os.environ)
    environment["PYTHONPATH"] = os.pathsep.join(entry for entry in sys.path if entry)
    scripts = str(Path(sys.executable).parent)  # ninja, where pip has put it
    environment["PATH"] = os.pathsep.join([environment.get("PATH", os.defpath), scripts])
    arguments: dict[str, object] = {
        "name": plan.name,
        "sources": [str(source) for source in plan.sources],
        "extra_cflags": plan.cflags,
        "extra_cuda_cflags": plan.cuda_flags,
        "extra_ldflags": plan.ldflags,
        "build_directory": str(scratch),
        "with_cuda": plan.device == "cuda",
    }
    if toolkit is not None:
        environment["CUDA_HOME"] = str(toolkit.home)
        arguments["extra_include_paths"] = [str(folder) for folder in toolkit.include]
        if toolkit.runtime is not None:
            (scratch / "libcudart.so").symlink_to(toolkit.runtime)
            arguments["extra_ldflags"] = [*plan.ldflags, f"-L{scratch}"]
    command = [sys.executable, "-m", "uniphd.ops.compile_worker", json.dumps(arguments)]
    status, output = _run(command, environment, scratch, timeout)
    if status != 0:
        raise NativeOpsError(_reason(plan, status, output), output)


def _run(
    command: Sequence[str], environment: dict[str, str], folder: Path, timeout: float
) -> tuple[int, str]:
    """Runs a command in a process group of its own, so that its compilers can be ended with it."""
    process = subprocess.Popen(
        command,
        env=environment,
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(timeout=timeout)
    except BaseException as error:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        if isinstance(error, subprocess.TimeoutExpired):
            return 1, f"the compilers were stopped after {timeout:.0f} s"
        raise
    return process.returncode, output


def _reason(plan: BuildPlan, status: int, output: str) -> str:
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    errors = [line for line in lines if "error:" in line or "not found" in line]
    last = (errors[:1] or lines[-1:] or [f"exit status {status}"])[0]
    return f"compiling for {plan.device} failed: {last}"
