"""When and to whom images are shown; what they show is tested with the loggers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from lightning.pytorch.loggers import CSVLogger
from PIL import Image

from uniphd.models.uniphd import UniPHD
from uniphd.training.callbacks.validation_images import AdjacencyMaps, InstancesTable
from uniphd.training.loggers.interface import FigureLogger
from uniphd.visualization.contact_sheet import Row


class Gallery(FigureLogger):
    """Remembers names and steps."""

    def __init__(self) -> None:
        self.shown: list[tuple[str, int]] = []

    def log_figure(self, name: str, image: Image.Image, step: int) -> None:
        assert min(image.size) > 100
        self.shown.append((name, step))

    def log_instances(self, name: str, people: Sequence[Row], step: int) -> None:
        self.shown.append((name, step))


def trainer(logger: Any, step: int, **options: Any) -> Any:
    fit_loop = SimpleNamespace(epoch_loop=SimpleNamespace(_batches_that_stepped=step))
    usual = {"is_global_zero": True, "sanity_checking": False, "loggers": [logger]}
    return SimpleNamespace(fit_loop=fit_loop, **{**usual, **options})


def validate(callback: AdjacencyMaps, trainer: Any, network: UniPHD) -> None:
    callback.on_validation_start(trainer, None)
    callback.on_validation_epoch_end(trainer, SimpleNamespace(model=network))


def test_maps_are_shown_at_every_second_validation(tiny_network: UniPHD) -> None:
    gallery, maps = Gallery(), AdjacencyMaps(every=2)
    for step in (10, 20, 30):
        validate(maps, trainer(gallery, step), tiny_network)
    resumed = AdjacencyMaps(every=2)
    resumed.load_state_dict(maps.state_dict())
    validate(resumed, trainer(gallery, 40), tiny_network)
    names = ("adjacency/layer_1", "adjacency/layer_2")
    assert gallery.shown == [(name, step) for step in (20, 40) for name in names]


@pytest.mark.parametrize("option", [{"is_global_zero": False}, {"sanity_checking": True}])
def test_one_process_shows_them_and_not_in_the_sanity_check(
    tiny_network: UniPHD, option: dict[str, bool]
) -> None:
    gallery = Gallery()
    validate(AdjacencyMaps(), trainer(gallery, 0, **option), tiny_network)
    assert gallery.shown == []


def test_without_a_graph_there_is_no_map(tiny_network: UniPHD) -> None:
    for layer in tiny_network.decoder.layers:
        layer.adjacency = None
    gallery = Gallery()
    validate(AdjacencyMaps(), trainer(gallery, 0), tiny_network)
    assert gallery.shown == []


def test_nothing_is_collected_for_loggers_without_images(tmp_path: Path) -> None:
    table = InstancesTable()
    without = trainer(CSVLogger(tmp_path), 0)
    table.on_validation_start(without, None)
    table.on_validation_batch_end(without, None, {"detections": []}, None, 0)  # would fail on None
    table.on_validation_epoch_end(without, None)
    assert not table.people.rows
