"""Signals that ask a training to stop: the state is saved, and the exit code says so."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from multiprocessing import active_children
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import Trainer

from tests.processes import run_processes
from tests.training.fault_tolerance.test_exact_resume import (
    Draws,
    KeepingIO,
    Recorder,
    fit,
    fit_in_a_process,
)
from uniphd.data.resumable import (
    STOP_SIGNALS,
    ResumableLoader,
    leave_stopping_to_the_main_process,
)
from uniphd.data.samplers import EpochSampler
from uniphd.interrupt import exit_at_interrupt
from uniphd.training.fault_tolerance.stopping import StopRequested

SCHEDULE: dict[str, Any] = {
    "max_steps": 10,
    "val_check_interval": 4,
    "check_val_every_n_epoch": None,
    "batches": 5,
    "every_n_steps": 100,
}

pytestmark = pytest.mark.filterwarnings(
    "ignore:The dirpath has changed", "ignore:Checkpoint directory .* exists and is not empty"
)


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """Signals have their default meaning before and after each test."""
    before = {number: signal.getsignal(number) for number in STOP_SIGNALS}
    yield
    assert {number: signal.getsignal(number) for number in STOP_SIGNALS} == before


def send_in(
    monkeypatch: pytest.MonkeyPatch, where: type, method: str, call: int, *numbers: int
) -> None:
    """Send this process signals before a call of a method, counted from 1."""
    original, calls = getattr(where, method), iter(range(1, 1000))

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        if next(calls) == call:
            for number in numbers:
                os.kill(os.getpid(), number)
        return original(*args, **kwargs)

    monkeypatch.setattr(where, method, wrapped)


@pytest.mark.parametrize(
    ("where", "method", "call", "step"),
    [
        pytest.param(Recorder, "training_step", 2, 2, id="in a step"),
        pytest.param(Recorder, "training_step", 5, 5, id="in an epoch's last step"),
        pytest.param(Recorder, "validation_step", 1, 4, id="in a validation"),
        pytest.param(Recorder, "validation_step", 3, 9, id="in the last validation"),
        pytest.param(KeepingIO, "save_checkpoint", 1, 4, id="before a validation, while writing"),
    ],
)
def test_a_stopped_run_continues(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, where: type, method: str, call: int, step: int
) -> None:
    schedule = {**SCHEDULE, "val_check_interval": 5} if step == 9 else SCHEDULE
    events, _, _ = fit(tmp_path / "whole", **schedule)
    with monkeypatch.context() as patch:
        send_in(patch, where, method, call, signal.SIGTERM, signal.SIGUSR1, signal.SIGTERM)
        with pytest.raises(StopRequested) as stopped:
            fit(tmp_path / "part", **schedule)
    assert stopped.value.code == 143
    last = tmp_path / "part" / "last.ckpt"
    assert torch.load(last, weights_only=True)["global_step"] == step
    rest, _, _ = fit(tmp_path / "rest", last, **schedule)
    assert rest == events[-len(rest) :]
    assert [event[3] for event in rest if event[0] == "train"] == list(range(step, 10))


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGUSR2])
def test_the_signal_before_a_time_limit(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, number: int
) -> None:
    send_in(monkeypatch, Recorder, "training_step", 1, number)
    with pytest.raises(StopRequested) as stopped:
        fit(tmp_path, **SCHEDULE)
    assert stopped.value.code == 128 + number


@pytest.mark.parametrize(
    ("where", "method", "call", "times", "step"),
    [
        pytest.param(Recorder, "training_step", 2, 1, 2, id="in a step"),
        pytest.param(Recorder, "validation_step", 1, 1, 4, id="in a validation"),
        pytest.param(Recorder, "training_step", 2, 2, None, id="twice"),
        pytest.param(Trainer, "_run_stage", 1, 1, None, id="before the first step"),
    ],
)
def test_an_interrupt_saves_the_state_and_a_second_one_ends_at_once(
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    tmp_path: Path,
    where: type,
    method: str,
    call: int,
    times: int,
    step: int | None,
) -> None:
    send_in(monkeypatch, where, method, call, *[signal.SIGINT] * times)
    with pytest.raises(SystemExit) as stopped, exit_at_interrupt("uniphd-train"):
        fit(tmp_path, **SCHEDULE)
    assert stopped.value.code == 130
    last = tmp_path / "last.ckpt"
    assert (torch.load(last, weights_only=True)["global_step"] if last.exists() else None) == step
    lines = [line for line in capfd.readouterr().err.splitlines() if "Ctrl-C" in line]
    announced = ["Ctrl-C: stops with its state saved; again, to end at once"]
    assert lines == (announced if method != "_run_stage" else []) + [
        "uniphd-train: stopped by Ctrl-C"
    ]


@pytest.fixture
def seen(tmp_path: Path) -> Iterator[list[tuple[int, int]]]:
    """Every SIGUSR2 that another handler is given, with the step that is saved by then."""
    calls: list[tuple[int, int]] = []

    def handler(number: int, frame: object) -> None:
        saved = torch.load(tmp_path / "last.ckpt", weights_only=True)["global_step"]
        calls.append((number, saved))

    signal.signal(signal.SIGUSR2, handler)
    yield calls
    assert signal.getsignal(signal.SIGUSR2) is handler
    signal.signal(signal.SIGUSR2, signal.SIG_DFL)


@pytest.mark.parametrize(
    ("method", "call", "step"), [("training_step", 2, 2), ("validation_step", 1, 4)]
)
def test_what_something_else_handles_is_left_to_it_with_the_state_saved(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    seen: list[tuple[int, int]],
    method: str,
    call: int,
    step: int,
) -> None:
    send_in(monkeypatch, Recorder, method, call, signal.SIGUSR2)
    fit(tmp_path, **SCHEDULE)
    assert seen == [(signal.SIGUSR2, step)]


def test_a_signal_that_is_ignored_stays_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    try:
        send_in(monkeypatch, Recorder, "training_step", 1, signal.SIGUSR1)
        fit(tmp_path, **SCHEDULE)
    finally:
        signal.signal(signal.SIGUSR1, signal.SIG_DFL)
    assert torch.load(tmp_path / "last.ckpt", weights_only=True)["global_step"] == 10


def test_the_last_validation_repeats_one_step_at_most(tmp_path: Path) -> None:
    """A kill in it finds the step before; the run that is resumed validates again."""
    schedule = {**SCHEDULE, "val_check_interval": 5}
    events, copies, _ = fit(tmp_path, **schedule)
    steps = [torch.load(copy, weights_only=True)["global_step"] for _, copy in copies]
    first = next(i for i, event in enumerate(events) if event[:2] == ("val", 10))
    assert (
        max(step for step, (written, _) in zip(steps, copies, strict=True) if written <= first) == 9
    )


def stop_one_of_two(folder: Path) -> int:
    """The exit code of a process, of which the second alone receives a signal."""
    step, rank = Recorder.training_step, int(os.environ["RANK"])

    def signalled(self: Recorder, batch: torch.Tensor, batch_idx: int) -> torch.Tensor:
        if self.global_step == 1 and rank == 1:
            os.kill(os.getpid(), signal.SIGUSR1)
        return step(self, batch, batch_idx)

    Recorder.training_step = signalled  # type: ignore[method-assign]
    try:
        fit_in_a_process(folder, None)
    except StopRequested as request:
        return int(str(request.code))
    return 0


@pytest.mark.slow
def test_all_processes_stop_at_one_ones_signal(tmp_path: Path) -> None:
    code = 128 + signal.SIGUSR1
    assert run_processes(stop_one_of_two, 2, tmp_path) == [code, code]
    assert torch.load(tmp_path / "last.ckpt", weights_only=True)["global_step"] == 2


def slurm(monkeypatch: pytest.MonkeyPatch) -> None:
    """One task of a job."""
    names = {"JOB_ID": "4711", "JOB_NAME": "uniphd", "NTASKS": "1", "PROCID": "0", "LOCALID": "0"}
    for name, value in {**names, "NODEID": "0", "NNODES": "1", "NTASKS_PER_NODE": "1"}.items():
        monkeypatch.setenv(f"SLURM_{name}", value)


def test_lightning_does_not_requeue_on_its_own(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Its handler would save a file that is resumed from in place of newer ones."""
    slurm(monkeypatch)
    before_training: list[Any] = []
    run_stage = Trainer._run_stage

    def wrapped(trainer: Trainer) -> Any:
        before_training.append(signal.getsignal(signal.SIGUSR1))
        return run_stage(trainer)

    monkeypatch.setattr(Trainer, "_run_stage", wrapped)
    fit(tmp_path, **SCHEDULE)
    assert before_training == [signal.SIG_DFL]


def test_loading_goes_on_until_the_main_process_stops() -> None:
    data = Draws(8)
    loader = ResumableLoader(
        data, 1, sampler=EpochSampler(data, False), num_workers=1,
        worker_init_fn=leave_stopping_to_the_main_process, generator=torch.Generator(),
    )  # fmt: skip
    batches = iter(loader)
    first = next(batches)
    for child in active_children():
        for number in STOP_SIGNALS:
            os.kill(child.pid or 0, number)
    assert [item[1] for batch in [first, *batches] for item in batch.tolist()] == list(range(8))
