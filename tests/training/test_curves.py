"""Training curves."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from uniphd.training.callbacks.curves import TrainingCurves


def _trainer(step: int, **metrics: float) -> SimpleNamespace:
    named = {name.replace("__", "/"): torch.tensor(value) for name, value in metrics.items()}
    return SimpleNamespace(
        global_step=step,
        log_every_n_steps=10,
        callback_metrics=named,
        sanity_checking=False,
        is_global_zero=True,
    )


def _run(curves: TrainingCurves, steps: range) -> None:
    for step in steps:
        curves.on_train_batch_end(_trainer(step, train__loss=100 / step), None, None, None, step)
        if step % 50 == 0:
            trainer = _trainer(step, val__text__mIoU=step / 200, val__point__mIoU=0.3, val__lr=1.0)
            curves.on_validation_end(trainer, None)


def test_points_are_those_of_the_logged_steps_and_validations(tmp_path: Path) -> None:
    curves = TrainingCurves(tmp_path / "images" / "curves.png", ["train/loss"], ["mIoU"])
    _run(curves, range(1, 101))
    assert curves.points["train/loss"] == [
        (s - 1, pytest.approx(100 / s)) for s in range(10, 101, 10)
    ]
    assert curves.points["val/text/mIoU"] == [(49, 0.25), (99, 0.5)]
    assert "val/lr" not in curves.points
    image = np.asarray(Image.open(tmp_path / "images" / "curves.png").convert("RGB"))
    assert image.shape[1] > 1.5 * image.shape[0]  # two panels side by side
    assert len(np.unique(image.reshape(-1, 3), axis=0)) > 10


@pytest.mark.parametrize(("kinds", "shown"), [(1, ["text"]), (2, ["text", "point", "mean"])])
def test_the_mean_of_one_kind_is_not_drawn_twice(
    kinds: int, shown: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: dict[str, dict[str, object]] = {}
    monkeypatch.setattr(
        "uniphd.training.callbacks.curves.draw_curves", lambda panels, _: drawn.update(panels)
    )
    named = dict(list({"val__text__mIoU": 0.25, "val__point__mIoU": 0.75}.items())[:kinds])
    curves = TrainingCurves(tmp_path / "curves.png", [], ["mIoU"])
    curves.on_validation_end(_trainer(10, **named, val__mean__mIoU=0.5), None)
    assert list(drawn["mIoU"]) == shown


def test_a_resumed_run_continues_the_curves(tmp_path: Path) -> None:
    whole = TrainingCurves(tmp_path / "a.png", ["train/loss"], ["mIoU"])
    _run(whole, range(1, 101))
    first, second = (TrainingCurves(tmp_path / "b.png", ["train/loss"], ["mIoU"]) for _ in "ab")
    _run(first, range(1, 61))
    second.load_state_dict(first.state_dict())
    _run(second, range(61, 101))
    assert dict(second.points) == dict(whole.points)
