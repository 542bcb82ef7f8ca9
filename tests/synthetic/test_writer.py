"""`uniphd-data synth`: folders in RefHuman's format."""

from __future__ import annotations

import filecmp
import json
from pathlib import Path

import numpy as np
import pytest
from pycocotools.coco import COCO

from tests.synthetic.conftest import SMALL
from uniphd.cli.data import main
from uniphd.data.annotations import load_annotations
from uniphd.data.images import read_image, verify_images
from uniphd.errors import ConfigError
from uniphd.synthetic.scene import SceneConfig, render_scene
from uniphd.synthetic.writer import write_folder

FILES = {
    "RefHuman_train.json",
    "RefHuman_val.json",
    "RefHuman_val_seen_pairs.json",
    "RefHuman_val_seen_pairs_others.json",
    "RefHuman_val_unseen.json",
    "RefHuman_val_unseen_others.json",
}


def same(first: Path, second: Path) -> bool:
    names = [path.relative_to(first) for path in first.rglob("*") if path.is_file()]
    assert names
    _, different, missing = filecmp.cmpfiles(first, second, map(str, names), shallow=False)
    return not different and not missing


def test_every_file_loads_without_a_problem(synthetic_folder: Path) -> None:
    assert {path.name for path in synthetic_folder.glob("RefHuman*")} == FILES
    images = synthetic_folder / "images"
    assert len(list(images.iterdir())) == 6 + 3 * 3
    ids: list[int] = []
    for name in FILES:
        file = load_annotations(synthetic_folder / name)
        assert file.skipped == ()
        assert verify_images(file.instances, images) == ()
        ids += [person.image_id for person in file.instances]
    assert len(ids) == len(set(ids))


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # pycocotools'
def test_pycocotools_agrees_about_masks_boxes_and_areas(
    synthetic_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    coco = COCO(str(synthetic_folder / "RefHuman_train.json"))
    for annotation in coco.dataset["annotations"]:
        mask = coco.annToMask(annotation)
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        assert annotation["area"] == mask.sum()
        assert annotation["bbox"] == [
            columns[0],
            rows[0],
            columns[-1] - columns[0] + 1,
            rows[-1] - rows[0] + 1,
        ]
        assert annotation["num_keypoints"] == sum(v > 0 for v in annotation["keypoints"][2::3])


def test_files_hold_the_drawn_scenes(synthetic_folder: Path) -> None:
    records = load_annotations(synthetic_folder / "RefHuman_train.json").instances
    content = json.loads((synthetic_folder / "RefHuman_train.json").read_text())
    wordings = {entry["id"]: entry["captions"] for entry in content["images"]}
    position = 0
    for index in range(6):
        scene = render_scene(SMALL, "train", index)
        for person in scene.people:
            record = records[position]
            position += 1
            rendered = read_image(synthetic_folder / "images" / record.file_name)
            assert (np.asarray(rendered) == scene.image).all()
            assert (record.mask() == person.mask).all()
            assert (record.keypoints == person.keypoints).all()
            texts = [caption.text for caption in person.captions]
            assert record.caption == texts[0]
            assert list(record.other_captions) == texts[1:]
            assert wordings[record.image_id] == texts
    assert position == len(records)


def test_scribbles_are_several_curves(synthetic_folder: Path) -> None:
    for record in load_annotations(synthetic_folder / "RefHuman_train.json").instances:
        assert len({stroke.tobytes() for stroke in record.scribbles}) >= 2


def test_pair_files_name_one_person_per_image_and_the_others_apart(
    synthetic_folder: Path,
) -> None:
    for split in ("val_unseen", "val_seen_pairs"):
        referred = load_annotations(synthetic_folder / f"RefHuman_{split}.json").instances
        others = load_annotations(synthetic_folder / f"RefHuman_{split}_others.json").instances
        names = [person.file_name for person in referred]
        assert len(names) == len(set(names)) == 3
        assert {person.file_name for person in others} == set(names)


def test_any_number_of_processes_writes_the_same_bytes(
    synthetic_folder: Path, tmp_path: Path
) -> None:
    write_folder(tmp_path / "two", SMALL, train=6, val=3, workers=2)
    assert same(synthetic_folder, tmp_path / "two")


def test_a_longer_set_begins_like_a_shorter_one(synthetic_folder: Path, tmp_path: Path) -> None:
    write_folder(tmp_path / "short", SMALL, train=2, val=1, workers=1)
    name = "train_000001.png"
    rendered = (tmp_path / "short" / "images" / name).read_bytes()
    assert rendered == (synthetic_folder / "images" / name).read_bytes()
    short = load_annotations(tmp_path / "short" / "RefHuman_train.json").instances
    long = load_annotations(synthetic_folder / "RefHuman_train.json").instances
    assert [person.image_id for person in short] == [
        person.image_id for person in long[: len(short)]
    ]


def test_an_own_folder_is_replaced_and_a_foreign_one_is_not(tmp_path: Path) -> None:
    out = tmp_path / "made" / "people"
    write_folder(out, SMALL, train=2, val=1, workers=1)
    write_folder(out, SceneConfig(seed=4), train=1, val=1, workers=1)
    assert json.loads((out / "synthetic.json").read_text())["seed"] == 4
    assert len(list((out / "images").glob("train*"))) == 1
    assert [path.name for path in out.parent.iterdir()] == ["people"]  # nothing temporary is left
    (out / "notes.txt").write_text("mine")
    with pytest.raises(ConfigError, match=r"did not write \(such as notes\.txt\)"):
        write_folder(out, SMALL, train=1, val=1, workers=1)
    assert (out / "notes.txt").read_text() == "mine"
    foreign = tmp_path / "foreign"
    (foreign / "images").mkdir(parents=True)
    with pytest.raises(ConfigError, match="holds files that this command did not write"):
        write_folder(foreign, SMALL, train=1, val=1, workers=1)
    empty = tmp_path / "empty"
    empty.mkdir()
    write_folder(empty, SMALL, train=1, val=1, workers=1)
    assert (empty / "RefHuman_train.json").exists()


def test_a_failure_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("uniphd.synthetic.scene._ATTEMPTS", 1)
    with pytest.raises(ConfigError, match="8 people do not fit into 64 x 64 pixels"):
        write_folder(
            tmp_path / "people", SceneConfig(0, (64, 64), (8, 8)), train=1, val=1, workers=1
        )
    assert list(tmp_path.iterdir()) == []


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "people"
    options = "--train 1 --val 1 --seed 9 --size 160x96 --people 2-2 --workers 1"
    main(["synth", str(out), *options.split()])
    assert f"{out / 'RefHuman_train.json'}: 2 people" in capsys.readouterr().out
    (first, second) = load_annotations(out / "RefHuman_train.json").instances
    assert first.size == second.size == (96, 160)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--train 0", "train is 0 images"),
        ("--val 0", "val is 0 images"),
        ("--workers 0", "workers is 0"),
        ("--seed -1", "The seed is -1"),
        ("--size 20x20", "too small"),
        ("--people 3-2", "3 to 2 people"),
    ],
)
def test_bad_values_end_in_one_sentence(options: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=f"^uniphd-data: .*{message}"):
        main(["synth", str(tmp_path / "people"), *options.split()])
    assert not (tmp_path / "people").exists()


@pytest.mark.parametrize("options", ["--size 20", "--people 3", "--people a-b"])
def test_malformed_options(
    options: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(["synth", str(tmp_path / "people"), *options.split()])
    assert "is not two numbers such as" in capsys.readouterr().err


def test_a_file_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "people").write_text("")
    with pytest.raises(ConfigError, match="is a file; name a folder"):
        write_folder(tmp_path / "people", SMALL, train=1, val=1, workers=1)
