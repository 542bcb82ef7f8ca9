"""`uniphd-eval protocol=coco` with the packaged network against a loop that is written by hand."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from tests.coco_form import write_coco_form
from tests.composition import compose_eval
from uniphd import Predictor
from uniphd.cli.data import main
from uniphd.cli.evaluate import evaluate
from uniphd.errors import AnnotationError, ConfigError, PromptError
from uniphd.models.uniphd import UniPHD

Metrics = Mapping[str, Mapping[str, float]]


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four synthetic images with two to four people each, in COCO's form."""
    folder = tmp_path_factory.mktemp("synthetic")
    options = ["--train", "1", "--val", "4", "--size", "96x96", "--workers", "1"]
    main(["synth", str(folder), *options])
    write_coco_form(folder / "RefHuman_val.json", folder / "coco.json")
    return folder


def run(folder: Path, people: Path, *overrides: str) -> Metrics:
    return evaluate(
        compose_eval(
            folder,
            "protocol=coco",
            "ckpt=synthetic_cpu",
            f"data.coco={people / 'coco.json'}",
            f"data.images={people / 'images'}",
            "data.num_workers=0",
            "trainer.accelerator=cpu",
            "trainer.enable_progress_bar=false",
            *overrides,
        )
    )


@pytest.mark.slow
def test_it_gives_the_numbers_of_a_loop_over_the_predictor(
    people: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts = tmp_path / "three.jsonl"
    main(["prompts", str(people / "coco.json"), str(prompts), "--seed", "3"])
    encoded = []
    encode = UniPHD.encode
    monkeypatch.setattr(
        UniPHD, "encode", lambda self, *inputs: encoded.append(1) or encode(self, *inputs)
    )
    metrics = run(tmp_path / "out", people, "protocol.seeds=[3]", "data.val_batch_size=2")
    assert len(encoded) == 2 * 4  # once per image and kind, whatever the size of the parts
    monkeypatch.undo()
    truth = COCO(str(people / "coco.json"))
    predictor = Predictor("synthetic_cpu", device="cpu")
    for kind in ("point", "scribble"):
        results = []
        for line in map(json.loads, prompts.read_text().splitlines()):
            if line["kind"] == kind:
                image = people / "images" / truth.imgs[line["image_id"]]["file_name"]
                found = predictor.predict(image, prompts=[line], exif=False)[0]
                pose = [value for x, y in found.keypoints.tolist() for value in (x, y, 1)]
                entry = {"image_id": line["image_id"], "category_id": 1, "score": found.score}
                results.append({**entry, "keypoints": pose})
        expected = pycocotools(truth, results)
        for name, value in expected.items():
            assert metrics[f"{kind}_best"][name] == pytest.approx(value, abs=1e-6)
        assert expected["pose_AP"] > 0.3
        written = tmp_path / "out" / f"{kind}_best_seed3_keypoints.json"
        assert pycocotools(truth, json.loads(written.read_text())) == {
            name: metrics[f"{kind}_best"][name] for name in expected
        }


def pycocotools(truth: COCO, results: list[dict[str, Any]]) -> dict[str, float]:
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation = COCOeval(truth, truth.loadRes(results), "keypoints")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    names = ("pose_AP", "pose_AP50", "pose_AP75", "pose_APM")
    return {name: float(value) for name, value in zip(names, evaluation.stats, strict=False)}


@pytest.mark.slow
def test_files_of_prompts_are_their_seeds_and_several_have_a_spread(
    people: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = []
    for seed in (1, 2):
        files.append(tmp_path / f"s{seed}.jsonl")
        main(["prompts", str(people / "coco.json"), str(files[-1]), "--seed", str(seed)])
    seeded = run(tmp_path / "a", people, "protocol.seeds=[1,2]", "prompt=point")
    assert " ± " in capsys.readouterr().out
    asked = f"protocol.prompts=[{files[0]},{files[1]}]"
    from_files = run(tmp_path / "b", people, asked, "prompt=point")
    for reading in ("best", "all"):
        name = f"point_{reading}"
        first, second = (seeded[f"{name}_seed{seed}"]["pose_AP"] for seed in (1, 2))
        assert from_files[f"{name}_s1"]["pose_AP"] == first != second
        assert from_files[f"{name}_s2"]["pose_AP"] == second
        assert seeded[name]["pose_AP"] == pytest.approx((first + second) / 2)
        spread = seeded[f"{name}_std"]["pose_AP"]
        assert spread == pytest.approx(abs(first - second) / 2**0.5)
    saved = json.loads((tmp_path / "a" / "metrics.json").read_text())
    assert saved["point_all"]["pose_AP"] == seeded["point_all"]["pose_AP"]


@pytest.mark.slow
def test_a_limit_is_said_and_evaluates_the_images_that_were_asked(
    people: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    options = ("prompt=mask", "trainer.limit_val_batches=2")
    limited = run(tmp_path / "limited", people, *options)
    assert "asked about 2 of 4 images (trainer.limit_val_batches=2)" in caplog.text
    assert limited["mask_best"]["pose_AR"] > 0.3


@pytest.mark.slow
def test_people_without_a_prompt_are_missed_and_counted(
    people: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "few.jsonl"
    main(["prompts", str(people / "coco.json"), str(path), "--kinds", "box"])
    lines = path.read_text().splitlines()
    everybody = run(tmp_path / "all", people, "prompt=box", f"protocol.prompts=[{path}]")
    path.write_text("\n".join(lines[:4]))
    few = run(tmp_path / "few", people, "prompt=box", f"protocol.prompts=[{path}]")
    said = f"few has no box prompt for {len(lines) - 4} of {len(lines)} people"
    assert said in caplog.text
    assert few["box_best"]["pose_AR"] < everybody["box_best"]["pose_AR"]


@pytest.mark.parametrize(
    ("overrides", "error", "message"),
    [
        (["prompt=text"], ConfigError, "A COCO file has no captions"),
        (["protocol.seeds=[]"], ConfigError, r"protocol\.seeds is empty"),
        (["protocol.seeds=[1,1]"], ConfigError, r"protocol\.seeds names 1 twice"),
        (["protocol.seeds=[a]"], ConfigError, r"protocol\.seeds is \['a'\]"),
        (["protocol.prompts=[none.jsonl]"], PromptError, "none.jsonl cannot be read"),
        (["protocol.prompts=[a/x.jsonl,b/x.jsonl]"], ConfigError, "names x twice"),
        (["data.coco=none.json"], AnnotationError, "none.json does not exist"),
    ],
)
def test_what_cannot_be_is_one_sentence(
    people: Path, tmp_path: Path, overrides: list[str], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        run(tmp_path, people, *overrides)


def test_data_and_protocol_belong_together(people: Path, tmp_path: Path) -> None:
    common = ("ckpt=synthetic_cpu", "prompt=point", "trainer.accelerator=cpu")
    with pytest.raises(ConfigError, match="protocol=coco evaluates a COCO file; leave data="):
        evaluate(compose_eval(tmp_path, "protocol=coco", "data=synthetic", *common))
    coco = (f"data.coco={people / 'coco.json'}", f"data.images={people / 'images'}")
    with pytest.raises(ConfigError, match="data=coco is for protocol=coco"):
        evaluate(compose_eval(tmp_path, "data=coco", *coco, *common))
    with pytest.raises(ConfigError, match=r"data\.coco, data\.images must be given; add data\."):
        evaluate(compose_eval(tmp_path, "protocol=coco", *common))
