"""Another keypoint set is one word on the command line, and checkpoints do not mix sets."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

import uniphd
from tests.composition import compose_eval, compose_train
from tests.integration.test_train_and_evaluate import SMALL
from tests.refhuman_folder import write_refhuman
from uniphd.cli.evaluate import evaluate
from uniphd.cli.train import train
from uniphd.errors import CheckpointError, ConfigError
from uniphd.keypoints import COCO17, SCHEMAS

QUICK = ("trainer.max_steps=2", "optim.scheduler.total_steps=8", "callbacks.progress_bar=null")
OTHERS = [name for name in SCHEMAS if name != COCO17.name]


@pytest.mark.parametrize("name", OTHERS)
def test_a_set_trains_is_evaluated_and_keeps_to_itself(
    name: str, tmp_path: Path, refhuman_folder: Path
) -> None:
    schema = SCHEMAS[name]
    data = write_refhuman(tmp_path / "data", people=4, schema=schema)

    def run(*overrides: str) -> None:
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        train(compose_train(folder, *SMALL, *QUICK, "callbacks.contact_sheet.people=1", *overrides))

    run(f"data.root={data}", f"keypoints={name}", "augment=refhuman")
    (last,) = tmp_path.rglob("last.ckpt")
    assert uniphd.load_model(last).schema is schema

    def evaluated(root: Path, *overrides: str) -> dict[str, dict[str, float]]:
        quiet = ["callbacks=none", "trainer.enable_progress_bar=false", "data.num_workers=0"]
        options = [f"ckpt={last}", f"data.root={root}", "prompt=text", *quiet, *overrides]
        return evaluate(compose_eval(tmp_path / "eval", *options))

    metrics = evaluated(data)["text"]
    assert 0 <= metrics["mean_OKS"] <= 1
    assert math.isnan(metrics["PCKh@0.5"]) == (schema.head_pair is None)
    found = json.loads((tmp_path / "eval" / "text_keypoints.json").read_text())
    assert np.shape([entry["keypoints"] for entry in found])[1] == 3 * len(schema)

    mixed = rf"last\.ckpt predicts poses of keypoints={name}, but keypoints=coco is chosen"
    with pytest.raises(CheckpointError, match=mixed):
        evaluated(refhuman_folder, "keypoints=coco")
    for key in ("ckpt_path", "init_from"):
        with pytest.raises(CheckpointError, match=mixed):
            run(f"data.root={refhuman_folder}", f"{key}={last}")


def test_all_losses_beyond_the_paper_know_the_set(tmp_path: Path) -> None:
    data = write_refhuman(tmp_path / "data", people=4, schema=SCHEMAS["crowdpose"])
    options = ["keypoints=crowdpose", "model=uniphd_plus", "loss=plus", "loss.warmup=null"]
    short = ["data.val_file=null", "callbacks=none", f"data.root={data}"]
    metrics = train(compose_train(tmp_path / "run", *SMALL, *QUICK[:2], *options, *short))
    assert math.isfinite(metrics["train/heatmaps"] + metrics["train/dense_keypoints"])


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (["keypoints=coco17"], "'coco17'; choose from coco, crowdpose, coco_wholebody"),
        (["keypoints=crowdpose", "monitor=val/mean/PCKh@0.5"], "undefined for keypoints=crowdpose"),
        (["keypoints=crowdpose", "data=synthetic"], "Synthetic people have no poses of .*crowd"),
        (["data.keypoints=crowdpose"], r"crowdpose \(14 keypoints\) and the network .* coco \(17"),
        (["model.decoder.num_keypoints=14"], "model.decoder.num_keypoints is 14, but .* coco"),
    ],
)
def test_what_does_not_fit_together_is_one_sentence(
    overrides: list[str], says: str, tmp_path: Path
) -> None:
    data = [f"data.root={write_refhuman(tmp_path / 'data', 2, schema=SCHEMAS['crowdpose'])}"]
    options = [*SMALL, *QUICK, *([] if "data=synthetic" in overrides else data), *overrides]
    with pytest.raises(ConfigError, match=says):
        train(compose_train(tmp_path / "run", *options))
