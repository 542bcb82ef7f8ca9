from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from uniphd.errors import ConfigError, ImageError
from uniphd.inference.predictor import Predictor
from uniphd.inference.result import Instance
from uniphd.synthetic.annotations import AnnotatedScene


@pytest.fixture(scope="module")
def found(predictor: Predictor, scene: AnnotatedScene) -> Instance:
    x, y, w, h = scene.annotations[0].bbox
    return predictor.predict(scene.image, box=(x, y, x + w, y + h), top_k=2)


def test_the_person_is_found(found: Instance, scene: AnnotatedScene) -> None:
    truth = scene.annotations[0].mask().astype(bool)
    assert found.mask.dtype == bool
    assert (found.mask & truth).sum() / (found.mask | truth).sum() > 0.5
    assert found.score > 0.3
    assert found.keypoints.shape == (17, 2)
    x, y, visibility = found.named_keypoints["left_hip"]
    assert [x, y] == pytest.approx(found.keypoints[found.schema.names.index("left_hip")].tolist())
    assert 0 <= visibility <= 1
    assert repr(found).startswith("Instance(score=0.")


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # pycocotools
def test_a_coco_entry_has_what_the_result_has(found: Instance) -> None:
    entry = json.loads(json.dumps(found.to_coco(7)))
    assert entry["image_id"] == 7
    assert "image_id" not in found.to_coco()
    assert np.array_equal(coco_mask.decode(entry["segmentation"]).astype(bool), found.mask)
    x, y, w, h = entry["bbox"]
    np.testing.assert_allclose([x, y, x + w, y + h], found.box, rtol=1e-6)
    keypoints = np.reshape(entry["keypoints"], (17, 3))
    np.testing.assert_array_equal(keypoints[:, :2].astype(np.float32), found.keypoints)
    np.testing.assert_array_equal(keypoints[:, 2].astype(np.float32), found.visibility)


def test_results_are_not_changed_through_their_arrays(found: Instance) -> None:
    before = found.keypoints
    found.keypoints[:] = 0
    assert np.array_equal(found.keypoints, before)


def test_drawings_have_the_images_size_or_the_one_asked_for(
    found: Instance, scene: AnnotatedScene
) -> None:
    drawn = found.draw(scene.image)
    assert drawn.size == (200, 150)
    changed = (np.asarray(drawn) != scene.image).any(2)
    assert changed[found.mask].mean() > 0.95
    assert changed.mean() < 0.9
    assert found.draw(scene.image, longer_side=400).size == (400, 300)
    width, height = found.draw(scene.image, caption=True).size
    assert width == 200
    assert height > 150


def test_another_image_is_not_drawn_on(found: Instance, scene: AnnotatedScene) -> None:
    with pytest.raises(ImageError, match="has 150 x 200 pixels and the result is of one with 200"):
        found.draw(np.ascontiguousarray(scene.image.transpose(1, 0, 2)))


def test_an_image_is_read_for_drawing_as_it_was_for_the_network(
    predictor: Predictor, scene: AnnotatedScene, tmp_path: Path
) -> None:
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down: the size does not tell
    Image.fromarray(scene.image).save(tmp_path / "turned.png", exif=exif)
    plain = predictor.predict(scene.image, point=(40, 50))
    stored = predictor.predict(tmp_path / "turned.png", point=(40, 50), exif=False)
    assert np.array_equal(stored.draw(tmp_path / "turned.png"), plain.draw(scene.image))


def test_saving(found: Instance, scene: AnnotatedScene, tmp_path: Path) -> None:
    found.save(tmp_path / "found.json")
    assert json.loads((tmp_path / "found.json").read_text()) == found.to_coco()
    found.save(tmp_path / "found.png", scene.image)
    assert np.array_equal(Image.open(tmp_path / "found.png"), found.draw(scene.image))
    with pytest.raises(ImageError, match="give it as image="):
        found.save(tmp_path / "found.png")
    with pytest.raises(ImageError, match=r"found\.xyz .*suffix"):
        found.save(tmp_path / "found.xyz", scene.image)


def test_supervision(found: Instance, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "supervision", None)
    with pytest.raises(ConfigError, match="pip install 'uniphd"):
        found.to_supervision()


# It says that it uses NumPy where OpenCV is not installed.
@pytest.mark.filterwarnings("ignore:OpenCV:UserWarning")
def test_supervision_draws_what_we_found(found: Instance, scene: AnnotatedScene) -> None:
    supervision = pytest.importorskip("supervision")
    detections, keypoints = found.to_supervision()
    assert len(detections) == len(keypoints) == 1
    np.testing.assert_array_equal(detections.xyxy[0], found.box)
    np.testing.assert_array_equal(detections.mask[0], found.mask)
    assert detections.confidence[0] == np.float32(found.score)
    np.testing.assert_array_equal(keypoints.xy[0], found.keypoints)
    masked = supervision.MaskAnnotator().annotate(scene.image.copy(), detections)
    changed = (masked != scene.image).any(2)
    assert (changed & ~found.mask).sum() == 0
    assert changed[found.mask].mean() > 0.9
    pointed = supervision.VertexAnnotator(radius=2).annotate(scene.image.copy(), keypoints)
    assert (pointed != scene.image).any()
