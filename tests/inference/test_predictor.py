from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image

from tests.inference.differences import largest_difference
from uniphd import BoxPrompt, MaskPrompt, PointPrompt, ScribblePrompt, TextPrompt
from uniphd.checkpoints.reading import load_model_and_config
from uniphd.data.collate import Collate
from uniphd.data.dataset import RefHumanDataset
from uniphd.data.sample import annotated_person
from uniphd.data.transforms import EvaluationTransform
from uniphd.errors import CheckpointError, ConfigError, ImageError, PromptError
from uniphd.inference.predictor import Predictor
from uniphd.inference.result import Instance
from uniphd.models.build import build_tokenizer
from uniphd.prompts import KINDS, FixedPrompt, Prompt
from uniphd.synthetic.annotations import AnnotatedScene
from uniphd.training.module import RefHumanModule


@pytest.fixture(scope="module")
def prompts(scene: AnnotatedScene) -> list[Prompt]:
    """One of every kind, and further texts and strokes of other lengths."""
    people = [annotated_person(annotation) for annotation in scene.annotations]
    fixed = [KINDS[kind].fixed(person) for person in people for kind in KINDS]
    long = TextPrompt("the tall one in a red shirt who stands beside the person in blue trousers")
    return [*fixed, long, ScribblePrompt(fixed[2].points[:3])]


@pytest.mark.parametrize("kind", KINDS)
def test_a_prediction_is_the_evaluations_detection(
    predictor: Predictor, scene: AnnotatedScene, kind: str
) -> None:
    model, config = load_model_and_config("synthetic_cpu")
    dataset = RefHumanDataset(
        scene.annotations,
        lambda person: Image.fromarray(scene.image),
        EvaluationTransform(**config.preprocessing),
        FixedPrompt(kind),
    )
    asked, samples = [], []
    for index, annotation in enumerate(scene.annotations):
        prompt = FixedPrompt(kind)(annotated_person(annotation), Random(0))
        sample = dataset[index]
        seen = (sample.image.shape[1], sample.image.shape[2])
        person = replace(sample.people[0], prompt=prompt.resized(sample.original_size, seen))
        asked.append(prompt)
        samples.append(replace(sample, people=(person,)))
    module = RefHumanModule(model, None, config, torch.optim.AdamW, top_k=20)
    with torch.inference_mode():
        batch = Collate(build_tokenizer(config.tokenizer))(samples)
        detections = module.predict_step(batch, 0)
    for prompt, expected in zip(asked, detections, strict=True):
        (found,) = predictor.predict(scene.image, prompts=[prompt])
        assert found.score == pytest.approx(float(expected.scores[0]), abs=2e-6)
        np.testing.assert_allclose(found.box, expected.boxes[0], atol=3e-4)
        np.testing.assert_allclose(found.keypoints, expected.keypoints[0], atol=3e-4)
        np.testing.assert_allclose(found.visibility, expected.visibility[0], atol=2e-6)
        assert (found.mask != expected.masks[0].numpy()).mean() < 1e-4


def test_prompts_of_all_kinds_at_once_get_what_each_gets_alone(
    predictor: Predictor, scene: AnnotatedScene, prompts: list[Prompt]
) -> None:
    together = predictor.predict(scene.image, prompts=prompts)
    assert [found.prompt for found in together] == prompts
    for prompt, found in zip(prompts, together, strict=True):
        (alone,) = predictor.predict(scene.image, prompts=[prompt])
        assert largest_difference(found, alone) < 5e-6


def test_prompts_are_computed_in_chunks(
    scene: AnnotatedScene, prompts: list[Prompt], monkeypatch: pytest.MonkeyPatch
) -> None:
    small = Predictor("synthetic_cpu", device="cpu", batch_size=4)
    sizes: list[int] = []
    network = small._engine.network
    predict = network.predict

    def counting(encoded: Any, seen: Any, block: Any, index: Any) -> Any:
        sizes.append(len(block))
        return predict(encoded, seen, block, index)

    monkeypatch.setattr(network, "predict", counting)
    assert len(small.predict(scene.image, prompts=prompts[:10])) == 10
    assert sizes == [4, 4, 2]


def test_keywords_prompts_and_json_are_the_same(
    predictor: Predictor, scene: AnnotatedScene
) -> None:
    mask = np.zeros(scene.image.shape[:2], np.uint8)
    mask[40:90, 30:60] = 255
    stroke = [(40.0, 50.0), (41.0, 60.0), (44.0, 70.0)]
    values: dict[str, Any] = {
        "text": "the person on the left",
        "point": (40, 50),
        "scribble": stroke,
        "box": (30, 40, 60, 90),
        "mask": mask,
    }
    objects = [
        TextPrompt("the person on the left"),
        PointPrompt(torch.tensor([40.0, 50.0])),
        ScribblePrompt(torch.tensor(stroke)),
        BoxPrompt(torch.tensor([30.0, 40.0, 60.0, 90.0])),
        MaskPrompt(torch.from_numpy(mask > 0)),
    ]
    encoded = predictor.encode(scene.image)
    for (kind, value), prompt in zip(values.items(), objects, strict=True):
        plain = {"kind": kind, **prompt.to_json()}
        from_object, from_json = (encoded.predict(prompts=[p])[0] for p in (prompt, plain))
        assert largest_difference(encoded.predict(**{kind: value}), from_object) == 0
        assert largest_difference(from_json, from_object) == 0


def test_an_encoded_image_gives_what_a_whole_call_gives(
    predictor: Predictor, scene: AnnotatedScene
) -> None:
    encoded = predictor.encode(scene.image)
    assert encoded.size == (150, 200)
    for _ in range(2):
        again = encoded.predict(point=(40, 50))
        assert largest_difference(again, predictor.predict(scene.image, point=(40, 50))) == 0


def test_several_images_are_each_as_if_alone(
    predictor: Predictor, scene: AnnotatedScene, prompts: list[Prompt]
) -> None:
    other = np.ascontiguousarray(scene.image[:100, :120])
    asked = [PointPrompt(torch.tensor([40.0, 50.0])), TextPrompt("a person")]
    results = predictor.predict([scene.image, other], prompts=asked)
    singles = predictor.predict((scene.image, other), point=(40, 50))
    for image, found, single in zip((scene.image, other), results, singles, strict=True):
        for first, second in zip(found, predictor.predict(image, prompts=asked), strict=True):
            assert largest_difference(first, second) == 0
        assert single.image_size == image.shape[:2]


def test_eight_threads_get_a_single_threads_answers(
    predictor: Predictor, scene: AnnotatedScene, prompts: list[Prompt]
) -> None:
    images = [np.ascontiguousarray(scene.image[:, : 120 + 16 * i]) for i in range(5)]
    texts = [f"the person in a {color} shirt" for color in ("red", "blue", "green", "white")]
    calls = [(image, text) for image in images for text in texts]
    expected = [predictor.predict(image, text=text) for image, text in calls]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda call: predictor.predict(call[0], text=call[1]), calls))
    assert max(map(largest_difference, found, expected)) == 0


def test_threads_may_share_an_image_that_pillow_has_not_decoded(
    predictor: Predictor, scene: AnnotatedScene, tmp_path: Path
) -> None:
    path = tmp_path / "image.png"
    Image.fromarray(scene.image).save(path)
    expected = predictor.predict(path, point=(40, 50))
    for _ in range(5):
        with Image.open(path) as image, ThreadPoolExecutor(8) as pool:
            found = list(pool.map(lambda _: predictor.predict(image, point=(40, 50)), range(8)))
        assert max(largest_difference(one, expected) for one in found) == 0


class Frame(np.ndarray[Any, Any]):
    """An array that weak references can watch."""


def test_a_stream_takes_images_one_by_one_and_keeps_none(
    predictor: Predictor, scene: AnnotatedScene
) -> None:
    taken: list[weakref.ref[Frame]] = []

    def frames() -> Iterator[npt.NDArray[np.uint8]]:
        while True:
            frame = scene.image.copy().view(Frame)
            taken.append(weakref.ref(frame))
            yield frame

    stream = predictor.stream(frames(), point=(40, 50))
    results = []
    for count in (1, 2, 3):
        results.append(next(stream))
        assert len(taken) == count
    gc.collect()
    assert [reference() is None for reference in taken[:-1]] == [True, True]
    assert largest_difference(results[0], results[2]) == 0


def test_candidates_are_different_queries_best_first(
    predictor: Predictor, scene: AnnotatedScene
) -> None:
    found = predictor.predict(scene.image, point=(40, 50), top_k=3)
    assert [one.rank for one in found.candidates] == list(range(3))
    assert len(set(found.detections.queries.tolist())) == 3
    scores = [one.score for one in found.candidates]
    assert scores == sorted(scores, reverse=True)
    assert largest_difference(found, predictor.predict(scene.image, point=(40, 50))) < 5e-6
    assert len(predictor.predict(scene.image, point=(40, 50), top_k=10**6).candidates) < 1000


def test_a_result_does_not_hold_its_batch(
    predictor: Predictor, scene: AnnotatedScene, prompts: list[Prompt]
) -> None:
    found = predictor.predict(scene.image, prompts=prompts)[0]
    height, width = found.mask_logits.shape[-2:]
    assert found.mask_logits.untyped_storage().nbytes() == 4 * height * width


def test_mixed_precision_is_close(scene: AnnotatedScene) -> None:
    half = Predictor("synthetic_cpu", device="cpu", precision="bf16")
    full = Predictor("synthetic_cpu", device="cpu")
    x, y, w, h = scene.annotations[0].bbox
    asked = {"box": (x, y, x + w, y + h)}
    difference = largest_difference(
        half.predict(scene.image, **asked), full.predict(scene.image, **asked)
    )
    assert 0 < difference < 0.1


@pytest.mark.parametrize(
    ("arguments", "error", "sentence"),
    [
        ({"model": "hf://name"}, CheckpointError, "does not name an owner and a repository"),
        ({"model": "nowhere"}, CheckpointError, "nowhere"),
        ({"device": "gpu"}, ConfigError, "device 'gpu' cannot be used"),
        ({"device": "cuda:99"}, ConfigError, "device 'cuda:99' cannot be used"),
        ({"device": 1.5}, ConfigError, "device '1.5' cannot be used"),
        ({"precision": "16-mixed"}, ConfigError, "give None, bf16 or fp16"),
        ({"batch_size": 0}, ConfigError, "batch_size is 0"),
        ({"batch_size": 2.5}, ConfigError, "batch_size is 2.5"),
    ],
)
def test_settings_without_meaning_are_refused(
    arguments: dict[str, Any], error: type[Exception], sentence: str
) -> None:
    with pytest.raises(error, match=sentence):
        Predictor(**arguments)


@pytest.mark.parametrize(
    ("asked", "error", "sentence"),
    [
        ({}, PromptError, "Give one prompt"),
        ({"text": "a", "point": (1, 2)}, PromptError, "several prompts: text and point"),
        ({"text": "a", "prompts": []}, PromptError, "Give one prompt"),
        ({"prompts": "a man"}, PromptError, "prompts is a str; give a list"),
        ({"prompts": ["a man"]}, PromptError, r"prompts\[0\]: A prompt is 'a man'"),
        ({"prompts": [TextPrompt("a"), TextPrompt("")]}, PromptError, r"prompts\[1\]: .* empty"),
        ({"text": "a", "top_k": 0}, ConfigError, "top_k is 0"),
        ({"text": "a", "color": "gbr"}, ImageError, "give rgb or bgr"),
    ],
)
def test_questions_without_meaning_are_refused(
    predictor: Predictor,
    scene: AnnotatedScene,
    asked: dict[str, Any],
    error: type[Exception],
    sentence: str,
) -> None:
    with pytest.raises(error, match=sentence):
        predictor.predict(scene.image, **asked)


def test_no_prompts_are_no_results(predictor: Predictor, scene: AnnotatedScene) -> None:
    assert predictor.predict(scene.image, prompts=[]) == []


def test_prompts_that_cannot_be_asked_leave_the_others(
    scene: AnnotatedScene, monkeypatch: pytest.MonkeyPatch
) -> None:
    packaged = Predictor("synthetic_cpu", device="cpu", batch_size=2)
    encoded = packaged.encode(scene.image)
    tokenize = packaged._engine.tokenizer

    def refusing(texts: Any) -> Any:
        if "?" in texts:
            raise PromptError("no token in '?'")
        return tokenize(texts)

    object.__setattr__(packaged._engine, "tokenizer", refusing)
    texts = [TextPrompt(text) for text in ("a man", "", "?", "a woman", "a child")]
    found = list(encoded.predict_each(texts))
    assert [type(one) for one in found] == [Instance, PromptError, PromptError, Instance, Instance]
    assert "empty" in str(found[1])
    assert "no token" in str(found[2])
    for prompt, one in zip(texts, found, strict=True):
        if isinstance(one, Instance):
            assert one.prompt == prompt
            assert largest_difference(one, encoded.predict(prompts=[prompt])[0]) < 5e-6


def test_half_precision_on_the_cpu_is_close(scene: AnnotatedScene) -> None:
    half = Predictor("synthetic_cpu", device="cpu", precision="fp16")
    x, y, w, h = scene.annotations[0].bbox
    asked = {"box": (x, y, x + w, y + h)}
    full = Predictor("synthetic_cpu", device="cpu").predict(scene.image, **asked)
    assert 0 < largest_difference(half.predict(scene.image, **asked), full) < 0.02


@pytest.mark.slow
def test_a_compiled_predictor_answers_as_the_plain_one(
    predictor: Predictor, scene: AnnotatedScene, prompts: list[Prompt]
) -> None:
    compiled = Predictor("synthetic_cpu", device="cpu", compile=True)
    for asked in (prompts[:1], prompts[:5]):
        pairs = zip(
            compiled.predict(scene.image, prompts=asked),
            predictor.predict(scene.image, prompts=asked),
            strict=True,
        )
        for first, second in pairs:
            assert largest_difference(first, second) < 2e-5


@pytest.mark.parametrize(("limit", "sizes"), [(None, [7]), (1, [1] * 7), (300_000, [3, 3, 1])])
def test_chunks_are_small_enough_for_their_tokens(
    scene: AnnotatedScene, prompts: list[Prompt], limit: int | None, sizes: list[int]
) -> None:
    packaged = Predictor("synthetic_cpu", device="cpu")
    encoded = packaged.encode(scene.image)
    object.__setattr__(packaged._engine, "token_bytes", limit)
    tokens = packaged._engine.compute_features(torch.zeros(3, 72, 96, dtype=torch.uint8)).tokens
    assert 300_000 // tokens.nbytes == 3
    chunks = list(encoded._chunks(7))
    assert [len(prompts[:7][chunk]) for chunk in chunks] == sizes
