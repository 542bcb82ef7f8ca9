"""`uniphd-predict` with the packaged network: files, folders, lines of prompts, the demo."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from uniphd.cli import predict
from uniphd.inference import encoded
from uniphd.inference.predictor import Predictor
from uniphd.prompts import KINDS


@dataclass(frozen=True)
class Outcome:
    status: Any
    output: str
    errors: str


class Command:
    """The command in a folder of its own."""

    def __init__(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        self.folder, self.monkeypatch, self.capsys = folder, monkeypatch, capsys
        monkeypatch.chdir(folder)
        for name, size in (("a.png", (120, 90)), ("b.jpg", (80, 100))):
            noise = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
            Image.fromarray(noise).save(folder / name)

    def __call__(self, *arguments: str) -> Outcome:
        self.monkeypatch.setattr("sys.argv", ["uniphd-predict", *arguments])
        with pytest.raises(SystemExit) as caught:
            predict.main()
        captured = self.capsys.readouterr()
        return Outcome(caught.value.code, captured.out, captured.err)

    def lines(self, folder: str = "predictions") -> list[dict[str, Any]]:
        text = (self.folder / folder / "predictions.jsonl").read_text(encoding="utf-8")
        return [json.loads(line) for line in text.splitlines()]


@pytest.fixture(scope="session")
def packaged() -> Predictor:
    return Predictor("synthetic_cpu", device="cpu")


@pytest.fixture
def command(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    packaged: Predictor,
) -> Command:
    monkeypatch.setattr(predict, "Predictor", lambda *_, **__: packaged)  # loaded once
    return Command(tmp_path, monkeypatch, capsys)


def test_prompts_of_every_kind_for_an_image(command: Command) -> None:
    Image.fromarray(np.full((120, 90), 255, np.uint8)).save("mask.png")
    outcome = command(
        "a.png", "--text", "the man", "--point", "20,30", "--scribble", "20,30 25,40 26,50",
        "--box", "10,10,60,90", "--mask", "mask.png", "-o", "out",
    )  # fmt: skip
    assert outcome.status == 0
    lines = command.lines("out")
    assert [line["prompt"]["kind"] for line in lines] == list(KINDS)
    assert lines[1]["prompt"]["point"] == [20, 30]
    for number, line in enumerate(lines, 1):
        assert line["image"] == "a.png"
        assert line["figure"] == str(Path("out", f"a_{number}.jpg"))
        with Image.open(line["figure"]) as figure:
            assert figure.width == 480
        assert line["segmentation"]["size"] == [120, 90]
        assert len(line["keypoint_names"]) * 3 == len(line["keypoints"])
    assert "score" in outcome.output
    assert "trained on synthetic people" in outcome.errors


def test_a_folder_with_a_bad_image_goes_on_and_fails_at_the_end(command: Command) -> None:
    Path("aa.png").write_bytes(b"no image")
    Path("notes.txt").write_text("is not an image")
    Path(".hidden.png").write_bytes(b"")
    outcome = command(".", "--text", "a man", "--point", "20,95", "--text", "a woman")
    assert outcome.status == 1
    assert "aa.png is no image of a known format" in outcome.errors
    lines = command.lines()
    assert [(line["image"], "error" in line) for line in lines] == [
        *[("a.png", False)] * 3,
        *[("aa.png", True)] * 3,
        *(("b.jpg", False), ("b.jpg", True), ("b.jpg", False)),
    ]
    assert "outside of its 100 x 80 image" in lines[7]["error"]


def test_json_lines_on_standard_output_alone(command: Command) -> None:
    outcome = command("a.png", "b.jpg", "--text", "ein Mädchen", "-o", "-", "--top-k", "2")
    assert outcome.status == 0
    lines = [json.loads(line) for line in outcome.output.splitlines()]
    assert [line["image"] for line in lines] == ["a.png", "b.jpg"]
    assert "Mädchen" in outcome.output
    assert [len(line["candidates"]) for line in lines] == [2, 2]
    assert lines[0]["candidates"][0]["score"] == lines[0]["score"]
    assert sorted(path.name for path in Path().iterdir()) == ["a.png", "b.jpg"]


def test_a_file_of_prompts(command: Command) -> None:
    Path("asked").mkdir()
    Path("asked", "prompts.jsonl").write_text(
        '{"kind": "text", "text": "everywhere"}\n\n'
        '{"kind": "point", "point": [3, 4], "image": "../b.jpg"}\n'
    )
    outcome = command("a.png", "--prompts", "asked/prompts.jsonl", "--text", "first", "-o", "-")
    assert outcome.status == 0
    lines = [json.loads(line) for line in outcome.output.splitlines()]
    asked = [(Path(line["image"]).name, line["prompt"]["kind"]) for line in lines]
    assert asked == [
        *(("a.png", "text"), ("a.png", "text")),
        *(("b.jpg", "text"), ("b.jpg", "text"), ("b.jpg", "point")),
    ]


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ('{"kind": "point"}', "line 2: A point prompt"),
        ('{"kind": "dot", "point": [1, 2]}', "its kind is one of text, point"),
        ('{"kind": "text", "text": ""}', "line 2: A text prompt is empty"),
        ('{"kind": "text", "text": "a", "texts": "b"}', "'texts' is no key of a text prompt"),
        ('{"kind": "text", "text": "a", "image": 3}', "'image' is 3"),
        ("not json", "line 2: 'not json' is no JSON"),
        ("[" * 100_000, "is no JSON"),
        ("[1]", "A prompt is"),
    ],
)
def test_a_line_that_is_no_prompt_is_named(command: Command, line: str, sentence: str) -> None:
    Path("prompts.jsonl").write_text('{"kind": "text", "text": "a"}\n' + line)
    outcome = command("a.png", "--prompts", "prompts.jsonl")
    assert sentence in outcome.status
    assert outcome.status.startswith("uniphd-predict: prompts.jsonl, line 2: ")
    assert "\n" not in outcome.status


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["a.png"], "no prompt for a.png; add --text"),
        (["--prompts", "none.jsonl"], "none.jsonl cannot be read"),
        (["empty", "--text", "a"], "empty has no images"),
        (["a.png", "--text", "a", "-o", "b.jpg"], "b.jpg cannot be used: File exists"),
        (["a.png", "--text", "a", "--top-k", "0"], "top_k is 0"),
        (["a_1.jpg", "a.png", "--text", "a", "-o", "."], "is one of the images"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(
    command: Command, arguments: list[str], sentence: str
) -> None:
    Path("empty").mkdir()
    Path("b.jpg").replace("a_1.jpg")
    Path("b.jpg").touch()
    before = Path("a_1.jpg").read_bytes()
    outcome = command(*arguments)
    assert sentence in str(outcome.status)
    assert "\n" not in str(outcome.status)
    assert Path("a_1.jpg").read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "name at least one image"),
        (["a.png", "--point", "3"], "has the shape (1,) and needs (2,)"),
        (["a.png", "--point", "a,b"], "'a,b' is not numbers"),
        (["a.png", "--point", "nan,2"], "finite"),
        (["a.png", "--scribble", "1,2 3"], "is no stroke"),
        (["a.png", "--scribble", ""], "is no stroke"),
        (["a.png", "--box", "5,5,1,1"], "has no area"),
        (["a.png", "--text", " "], "is empty"),
        (["a.png", "--mask", "none.png"], "none.png does not exist"),
        (["a.png", "--batch-size", "many"], "invalid int value"),
    ],
)
def test_options_are_checked_before_anything_is_loaded(
    command: Command, arguments: list[str], sentence: str
) -> None:
    outcome = command(*arguments)
    assert outcome.status == 2
    assert sentence in outcome.errors


def test_images_of_one_name_get_figures_of_their_own(command: Command) -> None:
    Path("more").mkdir()
    Path("b.jpg").rename("more/A.jpg")
    assert command("a.png", "more", "--text", "a", "--text", "b").status == 0
    figures = [line["figure"] for line in command.lines()]
    assert len({figure.lower() for figure in figures}) == 4
    assert all(Path(figure).is_file() for figure in figures)


def test_the_demo_answers_a_prompt_of_every_kind(command: Command) -> None:
    outcome = command("--demo", "-o", "demo")
    assert outcome.status == 0
    assert outcome.errors == ""
    lines = command.lines("demo")
    assert [line["prompt"]["kind"] for line in lines] == list(KINDS)
    assert min(line["score"] for line in lines) > 0.3
    assert len(list(Path("demo").glob("demo_*.jpg"))) == 5


def test_a_video_has_a_line_per_frame_and_a_folder_of_frames_per_prompt(command: Command) -> None:
    av = pytest.importorskip("av")
    with av.open("clip.mp4", "w") as container:
        stream = container.add_stream("mpeg4", rate=5)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        for index in range(4):
            pixels = np.full((64, 96, 3), 40 * index, np.uint8)
            for packet in stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    outcome = command("clip.mp4", "--text", "the man", "--point", "90,10", "--every", "2")
    assert outcome.status == 0
    lines = command.lines()
    assert [(line["image"], line["frame"]) for line in lines] == [
        ("clip.mp4", index) for index in (0, 0, 2, 2)
    ]
    assert [line["seconds"] for line in lines] == pytest.approx([0, 0, 0.4, 0.4])
    figures = [
        Path("predictions", f"clip_{i}", f"frame_{n:06d}.jpg") for n in (0, 2) for i in (1, 2)
    ]
    assert [line["figure"] for line in lines] == list(map(str, figures))
    assert all(figure.is_file() for figure in figures)
    Path("clip.mp4").write_bytes(b"no video")
    outcome = command("clip.mp4", "--text", "the man", "-o", "-")
    assert outcome.status == 1
    assert "cannot be read as a video" in json.loads(outcome.output)["error"]


def test_a_video_without_the_decoder(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    outcome = command("clip.mp4", "--text", "the man")
    assert (
        outcome.status
        == "uniphd-predict: Videos need the package av (PyAV); pip install 'uniphd[video]'."
    )


def test_every_prompt_is_fitted_once(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    fitted = []
    fit = encoded.fit_prompt
    monkeypatch.setattr(encoded, "fit_prompt", lambda *asked: fitted.append(asked) or fit(*asked))
    assert command("a.png", "--text", "the man", "--point", "20,30").status == 0
    assert len(fitted) == 2
