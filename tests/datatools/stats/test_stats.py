"""`uniphd-data stats`, against numbers counted from the raw files."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.refhuman_folder import write_refhuman
from uniphd.cli.data import main


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_refhuman(tmp_path / "set", people=8, seed=1)


def statistics(folder: Path, capsys, *options: str) -> dict:
    capsys.readouterr()
    main(["stats", str(folder), "--json", "-", *options])
    return json.loads(capsys.readouterr().out)


def test_numbers_are_those_of_the_raw_file(refhuman_mini: Path, capsys) -> None:
    found = statistics(refhuman_mini, capsys)
    assert list(found) == ["RefHuman_train.json", "RefHuman_val.json"]
    for name, summary in found.items():
        raw = json.loads((refhuman_mini / name).read_text())
        per_image = Counter(image["file_name"] for image in raw["images"])
        labels = np.array([a["keypoints"] for a in raw["annotations"]]).reshape(-1, 17, 3)[..., 2]
        areas = [annotation["area"] for annotation in raw["annotations"]]
        words = Counter(w for image in raw["images"] for w in image["caption"].lower().split())
        assert (summary["images"], summary["people"]) == (len(per_image), len(raw["annotations"]))
        assert summary["people_per_image"]["counts"] == {
            str(number): count for number, count in sorted(Counter(per_image.values()).items())
        }
        assert summary["people_per_image"]["mean"] == pytest.approx(
            np.mean(list(per_image.values())), abs=1e-3
        )
        assert summary["keypoints"]["nose"] == {
            "visible": (labels[:, 0] == 2).sum(),
            "hidden": (labels[:, 0] == 1).sum(),
        }
        assert summary["keypoints_per_person"]["mean"] == pytest.approx(
            (labels > 0).sum(1).mean(), abs=1e-3
        )
        assert summary["sizes"] == {
            "small": sum(area < 32**2 for area in areas),
            "medium": sum(32**2 <= area < 96**2 for area in areas),
            "large": sum(area >= 96**2 for area in areas),
        }
        sizes = {image["file_name"]: image["width"] for image in raw["images"]}
        assert summary["image_width"]["median"] == np.median(list(sizes.values()))
        assert summary["captions"] == len(raw["images"])
        assert summary["frequent_words"]["man"] == words["man"] + words["man's"]
        assert summary["left_out"] == {}


def test_what_cannot_be_used_is_counted(folder: Path, capsys) -> None:
    content = json.loads((folder / "RefHuman_val.json").read_text())
    content["annotations"][0]["bbox"] = [0, 0, 0, 0]
    content["images"][3]["captions"] = []
    del content["images"][3]["caption"]
    (folder / "RefHuman_val.json").write_text(json.dumps(content))
    (summary,) = statistics(folder, capsys, "--split", "val").values()
    assert summary["left_out"] == {"box without area": 1}
    assert (summary["people"], summary["captions"]) == (3, 2)


def test_table_and_plots(folder: Path, tmp_path: Path, capsys) -> None:
    main(["stats", str(folder), "-o", str(tmp_path / "plots"), "--json", str(tmp_path / "a.json")])
    printed = capsys.readouterr().out
    assert "RefHuman_train.json" in printed
    assert "mean 2.00; 2: 4" in " ".join(printed.split())
    assert "12 plots" in printed
    images = sorted(path.name for path in (tmp_path / "plots").iterdir())
    assert len(images) == 12
    assert images[0] == "RefHuman_train_areas.png"
    for name in images:
        with Image.open(tmp_path / "plots" / name) as image:
            assert image.width > 300
    assert set(json.loads((tmp_path / "a.json").read_text())) == {
        "RefHuman_train.json",
        "RefHuman_val.json",
    }


def test_captions_do_not_reach_the_terminal_as_codes(folder: Path, capsys) -> None:
    content = json.loads((folder / "RefHuman_val.json").read_text())
    for image in content["images"]:
        image["caption"] = "\x1b[31mred [bold]man[/bold]"
    (folder / "RefHuman_val.json").write_text(json.dumps(content))
    main(["stats", str(folder), "--split", "val"])
    assert "\x1b" not in capsys.readouterr().out
