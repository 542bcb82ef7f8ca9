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

from tests.training.test_exact_resume import Draws, KeepingIO, Recorder, fit
from uniphd.data.dataset import EpochSampler
from uniphd.data.resumable import ResumableLoader, leave_stopping_to_the_main_process
from uniphd.training.stopping import StopRequested

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
    yield
    for number in (signal.SIGTERM, signal.SIGUSR1):
        assert signal.getsignal(number) is signal.SIG_DFL


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
        pytest.param(KeepingIO, "save_checkpoint", 1, 4, id="before a validation, while writing"),
    ],
)
def test_a_stopped_run_continues(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, where: type, method: str, call: int, step: int
) -> None:
    events, _, _ = fit(tmp_path / "whole", **SCHEDULE)
    with monkeypatch.context() as patch:
        send_in(patch, where, method, call, signal.SIGTERM, signal.SIGUSR1, signal.SIGTERM)
        with pytest.raises(StopRequested) as stopped:
            fit(tmp_path / "part", **SCHEDULE)
    assert stopped.value.code == 143
    last = tmp_path / "part" / "last.ckpt"
    assert torch.load(last, weights_only=True)["global_step"] == step
    rest, _, _ = fit(tmp_path / "rest", last, **SCHEDULE)
    assert rest == events[-len(rest) :]
    assert [event[3] for event in rest if event[0] == "train"] == list(range(step, 10))


def test_the_signal_before_a_time_limit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    send_in(monkeypatch, Recorder, "training_step", 1, signal.SIGUSR1)
    with pytest.raises(StopRequested) as stopped:
        fit(tmp_path, **SCHEDULE)
    assert stopped.value.code == 128 + signal.SIGUSR1


def test_what_something_else_handles_is_left_to_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    seen: list[int] = []
    signal.signal(signal.SIGUSR1, lambda number, frame: seen.append(number))
    try:
        send_in(monkeypatch, Recorder, "training_step", 1, signal.SIGUSR1)
        fit(tmp_path, **SCHEDULE)
    finally:
        signal.signal(signal.SIGUSR1, signal.SIG_DFL)
    assert seen == [signal.SIGUSR1]


def test_loading_goes_on_until_the_main_process_stops() -> None:
    data = Draws(8)
    loader = ResumableLoader(
        data, 1, sampler=EpochSampler(data, False), num_workers=1,
        worker_init_fn=leave_stopping_to_the_main_process, generator=torch.Generator(),
    )  # fmt: skip
    batches = iter(loader)
    first = next(batches)
    for child in active_children():
        os.kill(child.pid or 0, signal.SIGTERM)
        os.kill(child.pid or 0, signal.SIGUSR1)
    assert [item[1] for batch in [first, *batches] for item in batch.tolist()] == list(range(8))
