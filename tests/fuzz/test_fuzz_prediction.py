"""The packaged network on images of any size with any prompt; configurations with anything."""

from __future__ import annotations

import copy
import json
import shutil
from dataclasses import replace
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
from hypothesis import Phase, given
from hypothesis import strategies as st
from PIL import Image

import uniphd
from tests.fuzz.cases import ends_well, share
from tests.fuzz.test_fuzz_annotations import VALUES
from tests.fuzz.test_fuzz_prompts import PROMPTS, sample
from uniphd.checkpoints.reading import read_checkpoint
from uniphd.data.collate import Collate
from uniphd.data.sample import image_tensor, resized_size
from uniphd.inference.detect import detect
from uniphd.models.build import build_tokenizer
from uniphd.models.uniphd import UniPHD
from uniphd.prompts import BoxPrompt, PointPrompt, Prompt, TextPrompt
from uniphd.structures import Instances

PACKAGED = Path(uniphd.__file__).parent / "weights" / "synthetic_cpu"
CONFIG = json.loads((PACKAGED / "config.json").read_text())
COLLATE = Collate(build_tokenizer(CONFIG["tokenizer"]))
TOP = 3
SIDES = st.sampled_from([1, 2, 3, 10, 31, 32, 33, 96, 200, 1_000, 30_000])


@cache
def model() -> UniPHD:
    return uniphd.load_model("synthetic_cpu")


@st.composite
def requests(draw: st.DrawFn) -> tuple[tuple[int, int], int, Prompt]:
    """An image's size, what is drawn in it, and a prompt that may or may not fit it."""
    height, width = draw(SIDES), draw(SIDES)
    if height * width > 10**6:
        height = 10
    size = resized_size((height, width), 96, 96)
    x, y = draw(st.integers(0, size[1] - 1)), draw(st.integers(0, size[0] - 1))
    fitting: list[Prompt] = [
        PointPrompt(torch.tensor([x, y], dtype=torch.float32)),
        BoxPrompt(torch.tensor([x / 2, y / 2, x + 1, y + 1], dtype=torch.float32)),
        TextPrompt("the man on the left"),
    ]
    prompt = draw(st.one_of(st.sampled_from(fitting), st.sampled_from(fitting), PROMPTS))
    return (height, width), draw(st.integers(0, 255)), prompt


@share(0.03)
@given(request=requests())
def test_any_request_gets_a_detection_or_one_sentence(
    request: tuple[tuple[int, int], int, Prompt],
) -> None:
    (height, width), value, prompt = request
    size = resized_size((height, width), 96, 96)
    rendered = Image.effect_noise((size[1], size[0]), value).convert("RGB")
    with ends_well("image id 7"):
        one = replace(
            sample(prompt, image_id=7, size=size),
            image=image_tensor(rendered),
            original_size=(height, width),
        )
        (instances,) = detect(model(), COLLATE([one]), TOP)
        assert_sound(instances, (height, width))


def assert_sound(instances: Instances, size: tuple[int, int]) -> None:
    assert len(instances) == TOP
    for values in (instances.scores, instances.visibility):
        assert ((values >= 0) & (values <= 1)).all()
    extent = torch.tensor([size[1], size[0]])
    assert ((instances.keypoints >= 0) & (instances.keypoints <= extent)).all()
    assert torch.isfinite(instances.boxes).all()
    assert instances.masks is not None
    assert instances.masks.shape == (TOP, *size)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(shutil.copytree(PACKAGED, tmp_path_factory.mktemp("model") / "copy"))


@st.composite
def configurations(draw: st.DrawFn) -> dict[str, Any]:
    """The packaged configuration with one entry replaced, removed or added."""
    config = copy.deepcopy(CONFIG)
    node: Any = config
    for _ in range(draw(st.integers(0, 4))):
        inner = sorted(key for key, value in node.items() if isinstance(value, dict))
        if not inner:
            break
        node = node[draw(st.sampled_from(inner))]
    key = draw(st.sampled_from([*sorted(node), "_target_", "surprise"]))
    if draw(st.booleans()):
        node.pop(key, None)
    else:
        node[key] = draw(VALUES)
    return config


@share(0.01, phases=(Phase.reuse, Phase.generate))  # making one smaller takes minutes
@given(config=configurations())
@pytest.mark.filterwarnings("ignore")
def test_any_configuration_loads_or_is_refused(folder: Path, config: dict[str, Any]) -> None:
    (folder / "config.json").write_text(json.dumps(config))
    with ends_well():
        read_checkpoint(folder)
        assert not uniphd.load_model(folder).training
        build_tokenizer(config["tokenizer"])


@share(0.01)
@given(seed=st.integers(0, 10**9), count=st.integers(1, 20))
def test_any_bytes_of_weights_load_or_are_refused(folder: Path, seed: int, count: int) -> None:
    random = Random(seed)
    shutil.copy(PACKAGED / "config.json", folder)
    raw = bytearray((PACKAGED / "model.safetensors").read_bytes())
    for _ in range(count):
        raw[random.choice([random.randrange(8), random.randrange(20_000)])] = random.randrange(256)
    del raw[random.choice([len(raw), random.randrange(len(raw))]) :]
    (folder / "model.safetensors").write_bytes(bytes(raw))
    with ends_well(str(folder)):
        uniphd.load_model(folder)
