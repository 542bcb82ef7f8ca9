"""A run that is resumed with other settings: what it trains, and how fast."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from tests.composition import TINY, compose_train
from tests.refhuman_folder import write_refhuman
from uniphd.cli.train import train
from uniphd.errors import ConfigError
from uniphd.training.module import RefHumanModule

SMALL = (
    *TINY,
    *("data.eval_transform.size=96", "data.eval_transform.max_size=96", "data.val_file=null"),
    *("data.batch_size=2", "prompt=point", "optim.scheduler.warmup_steps=1"),
    *("trainer.log_every_n_steps=1", "trainer.val_check_interval=null"),
    *("trainer.enable_progress_bar=false", "callbacks.curves=null", "callbacks.contact_sheet=null"),
)


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight people in RefHuman's format."""
    return write_refhuman(tmp_path_factory.mktemp("people"), people=8, seed=0)


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Whom the trainings take: epoch and image id."""
    taken: list[tuple[int, int]] = []
    step = RefHumanModule.training_step

    def noted(self: RefHumanModule, batch: Any, batch_idx: int) -> Any:
        taken.extend((self.trainer.current_epoch, image) for image in batch.image_ids)
        return step(self, batch, batch_idx)

    monkeypatch.setattr(RefHumanModule, "training_step", noted)
    return taken


def run(folder: Path, root: Path, *overrides: str, resume: Path | None = None) -> None:
    path = [] if resume is None else [f"ckpt_path={resume / 'checkpoints' / 'last.ckpt'}"]
    train(compose_train(folder, *SMALL, f"data.root={root}", *overrides, *path))


def rates(folder: Path) -> list[float]:
    """The learning rate of every step."""
    with (folder / "csv" / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    (name,) = (name for name in rows[0] if name.startswith("lr-"))
    return [float(row[name]) for row in rows if row[name]]


@pytest.mark.slow
def test_a_run_that_is_made_longer_follows_the_longer_cosine(tmp_path: Path, people: Path) -> None:
    """The checkpoint's cosine has fallen to zero and would rise again."""
    run(tmp_path / "whole", people, "trainer.max_steps=6")
    run(tmp_path / "part", people, "trainer.max_steps=3")
    run(tmp_path / "rest", people, "trainer.max_steps=6", resume=tmp_path / "part")
    assert rates(tmp_path / "rest")[3:] == rates(tmp_path / "whole")[3:]


@pytest.mark.slow
@pytest.mark.parametrize("length", ["trainer.max_steps=5", "trainer.max_steps=-1"])
def test_larger_batches_leave_nobody_out(
    tmp_path: Path, people: Path, trained: list[tuple[int, int]], length: str
) -> None:
    run(tmp_path / "part", people, "trainer.max_steps=3", "trainer.max_epochs=2")
    larger = ("data.batch_size=4", "trainer.max_epochs=2", length)
    run(tmp_path / "rest", people, *larger, resume=tmp_path / "part")
    assert sorted(image for epoch, image in trained if epoch == 0) == list(range(1, 9))


@pytest.mark.slow
def test_a_rate_that_does_not_count_is_not_recorded_either(
    tmp_path: Path, people: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """So the next run that asks for it is told again."""
    run(tmp_path, people, "trainer.max_steps=2")
    for steps in (3, 4):
        caplog.clear()
        asked = (f"trainer.max_steps={steps}", "optim.lr=5e-5")
        run(tmp_path, people, *asked, resume=tmp_path)
        assert "optim.lr=5e-05 (before: 0.001)" in caplog.text
        config = json.loads((tmp_path / "run.json").read_text())["config"]
        assert (config["optim"]["lr"], config["module"]["lr"]) == (1e-3, 1e-3)


@pytest.mark.slow
def test_another_schedule_is_refused(tmp_path: Path, people: Path) -> None:
    run(tmp_path, people, "trainer.max_steps=2")
    other = ("optim.scheduler._target_=torch.optim.lr_scheduler.LinearLR",)
    with pytest.raises(ConfigError, match=r"optim\.scheduler=LinearLR \(before: warmup_cosine\)"):
        run(tmp_path, people, *other, "trainer.max_steps=3", resume=tmp_path)
