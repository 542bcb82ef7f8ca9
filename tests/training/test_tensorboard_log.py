"""TensorBoard's event files, read back with its own reader."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from lightning.fabric.loggers import tensorboard as lightnings
from PIL import Image

from tests.composition import compose_train
from uniphd.config.compose import build_nodes
from uniphd.errors import ConfigError
from uniphd.training.loggers.interface import LoggedRow
from uniphd.training.loggers.tensorboard_log import TensorBoardLog

events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")


def log(logger: TensorBoardLog, steps: Iterable[int], run: int) -> None:
    for step in steps:
        logger.log_metrics({"run": run}, step)
        logger.save()
    logger.finalize("success")


def scalars(folder: Path) -> list[tuple[int, float]]:
    reader = events.EventAccumulator(str(folder))
    reader.Reload()
    return [(event.step, event.value) for event in reader.Scalars("run")]


def test_a_resumed_run_takes_back_what_came_after_its_checkpoint(tmp_path: Path) -> None:
    log(TensorBoardLog(tmp_path), range(7), run=1)
    logger = TensorBoardLog(tmp_path)
    logger.load_state_dict({}, 4, [LoggedRow(step, {"run": 1}) for step in range(4)])
    log(logger, range(4, 10), run=2)
    assert scalars(tmp_path) == [(step, 1 if step < 4 else 2) for step in range(10)]


def test_another_folder_gets_what_was_before(tmp_path: Path) -> None:
    logger = TensorBoardLog(tmp_path)
    logger.load_state_dict({}, 4, [LoggedRow(step, {"run": 1}) for step in range(4)])
    log(logger, range(4, 6), run=2)
    assert scalars(tmp_path) == [(step, 1 if step < 4 else 2) for step in range(6)]
    assert all(path.name.startswith("events.out") for path in tmp_path.iterdir())


def test_images_are_stored_as_they_are(tmp_path: Path) -> None:
    image = Image.fromarray(np.arange(24, dtype=np.uint8).reshape(2, 4, 3))
    logger = TensorBoardLog(tmp_path)
    logger.log_figure("adjacency/layer_1", image, 5)
    logger.finalize("success")
    reader = events.EventAccumulator(str(tmp_path))
    reader.Reload()
    (event,) = reader.Images("adjacency/layer_1")
    assert (event.step, event.width, event.height) == (5, 4, 2)
    assert event.encoded_image_string.startswith(b"\x89PNG")


def test_without_tensorboard_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("_TENSORBOARD_AVAILABLE", "_TENSORBOARDX_AVAILABLE"):
        monkeypatch.setattr(lightnings, name, False)
    config = compose_train(tmp_path, "logger=tensorboard", "data.root=unused")
    with pytest.raises(ConfigError, match=r"pip install 'uniphd\[tensorboard\]'"):
        build_nodes(config.logger)
