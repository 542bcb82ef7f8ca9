"""Prompts for a COCO file: reproducible, on the person, the same from a seed and from its file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.data.coco_images import write_mini
from uniphd.cli.data import main
from uniphd.data.coco_file import CocoFile, read_coco
from uniphd.data.coco_prompts import SPATIAL_KINDS, SeededPrompts, read_prompts
from uniphd.datatools.from_coco.convert import Request, convert
from uniphd.datatools.from_coco.selection import EVERYBODY
from uniphd.errors import PromptError
from uniphd.prompts import MaskPrompt, PointPrompt, ScribblePrompt


@pytest.fixture
def coco(refhuman_mini: Path, tmp_path: Path) -> CocoFile:
    write_mini(refhuman_mini, tmp_path)
    return read_coco(tmp_path / "coco.json")


def write(folder: Path, name: str, *options: str) -> Path:
    main(["prompts", str(folder / "coco.json"), str(folder / name), *options])
    return folder / name


def test_a_file_of_prompts_is_that_of_its_seed(
    coco: CocoFile, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path, "a.jsonl", "--seed", "3")
    assert "62 people in 24 images, point scribble box mask" in (said := capsys.readouterr().out)
    assert "no prompt for 2 people: 1 x empty mask, 1 x box without area" in said
    assert path.read_bytes() == write(tmp_path, "b.jsonl", "--seed", "3").read_bytes()
    assert path.read_bytes() != write(tmp_path, "c.jsonl", "--seed", "4").read_bytes()
    assert len(path.read_text().splitlines()) == 4 * 62
    for kind, prompts in read_prompts(path, coco, SPATIAL_KINDS).items():
        assert prompts.name == "a"
        for person in coco.people:
            assert prompts.has(person)
            from_file, seeded = prompts(person), SeededPrompts(kind, 3)(person)
            assert type(from_file) is type(seeded)
            for name, value in vars(seeded).items():
                assert torch.equal(vars(from_file)[name], value)


def test_prompts_are_on_the_person(coco: CocoFile) -> None:
    for person in coco.people:
        mask = torch.from_numpy(person.mask()).bool()
        scribble = SeededPrompts("scribble", 0)(person)
        assert isinstance(scribble, ScribblePrompt)
        assert scribble.points.shape == (12, 2)
        x, y = scribble.points.long().T
        assert mask[y, x].all()
        point, coarse = SeededPrompts("point", 0)(person), SeededPrompts("mask", 0)(person)
        assert isinstance(point, PointPrompt)
        assert torch.equal(point.point, scribble.points[5])
        assert isinstance(coarse, MaskPrompt)
        assert (coarse.mask & mask).any()


def test_scribbles_are_the_first_of_from_coco(coco: CocoFile, tmp_path: Path) -> None:
    """So that RefHuman's protocol on that data asks the same."""
    images = tmp_path / "images"
    images.mkdir()
    for person in coco.people:
        (images / person.file_name).touch()
    request = Request(
        *(tmp_path / "coco.json", images, tmp_path / "out", "RefHuman_val.json", EVERYBODY),
        seed=7,
        workers=1,
    )
    convert(request, lambda converted, count: converted)
    entries = json.loads((tmp_path / "out" / "RefHuman_val.json").read_text())["annotations"]
    drawn = {entry["coco_ann_id"]: entry["scribble"][:24] for entry in entries}
    assert len(drawn) == 61
    for person in coco.people:
        if person.annotation_id in drawn:
            scribble = SeededPrompts("scribble", 7)(person)
            assert isinstance(scribble, ScribblePrompt)
            assert scribble.points.flatten().tolist() == drawn[person.annotation_id]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"annotation_id": 12}, "'annotation_id' is 12, who is nobody to ask about"),
        ({"annotation_id": [1]}, r"'annotation_id' is \[1\]"),
        ({"annotation_id": 77}, "'annotation_id' is 77, who is nobody to ask about"),
        ({"image_id": 5}, "'image_id' is 5, but annotation"),
        ({"point": [9000, 1]}, "is outside of its"),
        ({"point": [1]}, "has the shape"),
        ({"kind": "blink"}, "its kind is one of"),
        ({}, "there are two point prompts"),
        ("{", "is no JSON"),
        ("[]", "A prompt is"),
    ],
)
def test_a_line_that_is_wrong_is_named(
    coco: CocoFile, tmp_path: Path, change: dict[str, Any] | str, message: str
) -> None:
    path = write(tmp_path, "a.jsonl", "--kinds", "point")
    lines = path.read_text().splitlines()
    broken = change if isinstance(change, str) else json.dumps({**json.loads(lines[0]), **change})
    path.write_text("\n".join([lines[0], broken]))
    with pytest.raises(PromptError, match=rf"a\.jsonl, line 2: .*{message}"):
        read_prompts(path, coco, ["point"])
    path.write_text(lines[0])
    with pytest.raises(PromptError, match="has no box prompt"):
        read_prompts(path, coco, ["point", "box"])
    with pytest.raises(PromptError, match="No such file"):
        read_prompts(tmp_path / "none.jsonl", coco, ["point"])


def test_a_file_is_not_overwritten(coco: CocoFile, tmp_path: Path) -> None:
    write(tmp_path, "a.jsonl", "--kinds", "box")
    with pytest.raises(SystemExit, match="exists; name another file, or give --overwrite"):
        write(tmp_path, "a.jsonl", "--kinds", "box")
    write(tmp_path, "a.jsonl", "--kinds", "box", "--overwrite")
