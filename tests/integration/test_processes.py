"""Several processes as one: validation, and a cluster of which a host is killed."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from torch import distributed

from tests.coco_form import write_coco_form
from tests.composition import compose_eval
from tests.processes import run_processes
from tests.refhuman_folder import write_refhuman
from uniphd.cli.data import main
from uniphd.cli.evaluate import evaluate

ROOT = Path(__file__).parents[2]


def evaluate_and_count(folder: Path) -> tuple[dict[str, dict[str, float]], int]:
    """The packaged network's metrics on seven people, and the number of collectives."""
    collectives = []
    gather = distributed.all_gather_object

    def counted(*arguments: Any, **options: Any) -> None:
        collectives.append(arguments)
        gather(*arguments, **options)

    distributed.all_gather_object = counted
    processes = int(os.environ["WORLD_SIZE"])
    several = ("trainer=ddp", "trainer.accelerator=cpu", f"trainer.devices={processes}")
    config = compose_eval(
        folder,
        "ckpt=synthetic_cpu",
        "data=synthetic",
        "data.size=[96,96]",
        "data.people=[2,3]",
        "data.scene_seed=5",
        "data.val_scenes=3",  # seven people
        "data.num_render_workers=1",
        "data.val_batch_size=1",  # what else is in a batch changes an answer's last digits
        "prompt=spatial",
        "callbacks=none",
        "trainer.enable_progress_bar=false",
        *(several if processes > 1 else ()),
    )
    return evaluate(config), len(collectives)


@pytest.mark.slow
def test_one_two_and_three_processes_find_the_same_to_the_last_digit(tmp_path: Path) -> None:
    """Of seven people; the samplers of two and three processes repeat one or two of them."""
    ((expected, none),) = run_processes(evaluate_and_count, 1, tmp_path / "1")
    assert none == 0
    assert expected["point"]["mIoU"] > 0.3
    written = ("metrics.json", "point_keypoints.json", "scribble_segm.json")
    for processes in (2, 3):
        folder = tmp_path / str(processes)
        for metrics, collectives in run_processes(evaluate_and_count, processes, folder):
            assert repr(metrics) == repr(expected)  # NaN is not equal to itself
            assert collectives == 2 * len(expected)  # metrics and written results, per prompt kind
        for name in written:
            assert (folder / name).read_bytes() == (tmp_path / "1" / name).read_bytes()


def evaluate_mixed(folder: Path, images: Path, batch_size: int) -> dict[str, dict[str, float]]:
    """The packaged network's metrics on images of different sizes."""
    processes = int(os.environ["WORLD_SIZE"])
    config = compose_eval(
        folder,
        "ckpt=synthetic_cpu",
        f"data.root={images}",
        "data.num_workers=0",
        "data.eval_transform.size=80",
        "data.eval_transform.max_size=128",
        f"data.val_batch_size={batch_size}",
        "prompt=spatial",
        "callbacks=none",
        "trainer=ddp",
        "trainer.accelerator=cpu",
        f"trainer.devices={processes}",
        "trainer.enable_progress_bar=false",
    )
    return evaluate(config)


@pytest.mark.slow
def test_images_of_different_sizes_give_the_same_in_any_batch_and_process(tmp_path: Path) -> None:
    images = write_refhuman(tmp_path / "images", 24, seed=3)
    (expected,) = run_processes(evaluate_mixed, 1, tmp_path / "1", images, 1)
    for found in run_processes(evaluate_mixed, 2, tmp_path / "2", images, 5):
        for kind, metrics in expected.items():
            assert found[kind] == pytest.approx(metrics, abs=1e-6, nan_ok=True)


@pytest.mark.slow
def test_a_training_on_two_hosts_survives_the_death_of_one(tmp_path: Path) -> None:
    environment = {
        **os.environ,
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
    }
    script = ROOT / "tests" / "multinode" / "run.sh"
    done = subprocess.run(
        ["bash", str(script), str(tmp_path)], capture_output=True, text=True, env=environment
    )
    if done.returncode == 77:
        pytest.skip(done.stderr.strip())
    assert done.returncode == 0, done.stderr
    assert "resumed at step" in done.stdout


def evaluate_coco(folder: Path, people: Path) -> Mapping[str, Mapping[str, float]]:
    """The packaged network's metrics by COCO's protocol."""
    processes = int(os.environ["WORLD_SIZE"])
    several = ("trainer=ddp", f"trainer.devices={processes}")
    config = compose_eval(
        folder,
        "protocol=coco",
        "ckpt=synthetic_cpu",
        f"data.coco={people / 'coco.json'}",
        f"data.images={people / 'images'}",
        "data.num_workers=0",
        "protocol.seeds=[0,1]",
        "trainer.accelerator=cpu",
        "trainer.enable_progress_bar=false",
        *(several if processes > 1 else ()),
    )
    return evaluate(config)


@pytest.mark.slow
def test_coco_protocol_is_the_same_in_two_processes(tmp_path: Path) -> None:
    """Of three images, one of which both processes evaluate."""
    main(["synth", str(tmp_path), "--train", "1", "--val", "3", "--size", "96x96"])
    write_coco_form(tmp_path / "RefHuman_val.json", tmp_path / "coco.json")
    (expected,) = run_processes(evaluate_coco, 1, tmp_path / "1", tmp_path)
    first, second = run_processes(evaluate_coco, 2, tmp_path / "2", tmp_path)
    assert repr(first) == repr(expected)  # NaN is not equal to itself
    assert second == {}  # the first process alone evaluates and writes
    for name in ("metrics.json", "point_all_seed1_keypoints.json", "scribble_best_seed0_segm.json"):
        assert (tmp_path / "2" / name).read_bytes() == (tmp_path / "1" / name).read_bytes()
