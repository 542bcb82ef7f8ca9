"""Referring accuracy against plain loops over pixels and keypoints, and by hand."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco_mask

from uniphd.data.annotations import ReferredPerson
from uniphd.keypoints import COCO17
from uniphd.metrics.evaluator import RefHumanEvaluator
from uniphd.metrics.referring import (
    Confusion,
    group_by_image,
    mask_referring,
    pose_referring,
    shown_person,
    summarize_confusions,
)
from uniphd.structures import Instances

Array = np.ndarray[Any, Any]
Found = dict[int, tuple[Array, Array]]  # mask (h, w) and keypoints (17, 2) by image id

MASK_NAMES = ["pick", "referring_acc", "swap"]
POSE_NAMES = ["mean_OKS", "pose_pick", "pose_referring_acc", "pose_swap"]
SIZE = (40, 60)

pytestmark = pytest.mark.filterwarnings("ignore:The ``compute`` method")  # before `update`


def _blob(rng: np.random.Generator) -> Array:
    """A filled ellipse somewhere in the image."""
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]]
    y, x = rng.uniform(8, 32), rng.uniform(8, 52)
    inside = ((rows - y) / rng.uniform(4, 12)) ** 2 + ((columns - x) / rng.uniform(4, 12)) ** 2 < 1
    return np.asfortranarray(inside, dtype=np.uint8)


def _person(
    image_id: int, file_name: str, mask: Array, keypoints: Array, caption: str = "a person"
) -> ReferredPerson:
    return ReferredPerson(
        image_id=image_id,
        annotation_id=image_id,
        file_name=file_name,
        height=SIZE[0],
        width=SIZE[1],
        caption=caption,
        bbox=tuple(coco_mask.toBbox(coco_mask.encode(mask)).tolist()),
        area=float(mask.sum()),
        keypoints=keypoints.astype(np.float32),
        counts=coco_mask.encode(mask)["counts"],
        scribbles=np.zeros((5, 12, 2), dtype=np.int32),
    )


def _people(rng: np.random.Generator, images: int = 8) -> list[ReferredPerson]:
    """One to four people per image, in any order; a few without labelled keypoints."""
    people = []
    for number in range(images):
        for _ in range(1 + number % 4):
            mask = _blob(rng)
            rows, columns = np.nonzero(mask)
            chosen = rng.integers(len(rows), size=17)
            visibility = rng.choice([0, 1, 2], 17) * (rng.random() < 0.8)
            keypoints = np.column_stack([columns[chosen], rows[chosen], visibility])
            people.append(_person(len(people) + 7, f"{number}.jpg", mask, keypoints))
    return [people[i] for i in rng.permutation(len(people))]


def _labelled(people: Sequence[ReferredPerson]) -> list[ReferredPerson]:
    """The same people with every keypoint labelled."""
    return [replace(p, keypoints=np.maximum(p.keypoints, np.float32([0, 0, 1]))) for p in people]


def _shown(person: ReferredPerson) -> tuple[Array, Array]:
    """The answer that shows exactly this person."""
    return person.mask(), person.keypoints[:, :2].astype(np.float64)


def _found(rng: np.random.Generator, people: Sequence[ReferredPerson]) -> Found:
    """Somebody of the image, more or less well; for some nothing."""
    found: Found = {}
    for person in people:
        others = [other for other in people if other.file_name == person.file_name]
        shown = person if rng.random() < 0.6 else others[rng.integers(len(others))]
        if rng.random() < 0.85:
            mask = np.roll(shown.mask(), rng.integers(-4, 5, 2), axis=(0, 1))
            moved = shown.keypoints[:, :2] + rng.normal(0, rng.uniform(0, 3), (17, 2))
            # As the network gives them, in float32.
            found[person.image_id] = mask, moved.astype(np.float32).astype(np.float64)
    return found


def _encoded(found: Found) -> dict[int, str]:
    return {
        image_id: coco_mask.encode(np.asfortranarray(mask))["counts"].decode()
        for image_id, (mask, _) in found.items()
    }


def _instances(mask: Array, keypoints: Array) -> Instances:
    """The given detection in second place of three; the two others are nonsense."""
    return Instances(
        scores=torch.tensor([0.2, 0.7, 0.1]),
        queries=torch.arange(3),
        boxes=torch.tensor([[0.0, 0.0, 5.0, 5.0]] * 3),
        keypoints=torch.from_numpy(np.stack([keypoints - 500, keypoints, keypoints * 0])).float(),
        visibility=torch.ones(3, 17),
        masks=torch.from_numpy(np.stack([mask[::-1], mask, mask * 0])).bool(),
    )


def _evaluate(people: Sequence[ReferredPerson], found: Found) -> dict[str, float]:
    evaluator = RefHumanEvaluator(people)
    for image_id, shown in found.items():
        evaluator.update([image_id], [_instances(*shown)])
    metrics = evaluator.compute()
    return {name: metrics[name] for name in MASK_NAMES + POSE_NAMES}


def _loop_iou(person: ReferredPerson, other: ReferredPerson, found: Found) -> float:
    if person.image_id not in found:
        return 0.0
    a, b = found[person.image_id][0] > 0, other.mask() > 0
    return int((a & b).sum()) / int((a | b).sum())


def _loop_oks(person: ReferredPerson, other: ReferredPerson, found: Found) -> float:
    if person.image_id not in found:
        return 0.0
    total, labelled = 0.0, 0
    for k, (x, y, v) in enumerate(other.keypoints.tolist()):
        if v > 0:
            px, py = found[person.image_id][1][k]
            variance = other.area * (2 * COCO17.sigmas[k]) ** 2
            total += math.exp(-((px - x) ** 2 + (py - y) ** 2) / (2 * variance))
            labelled += 1
    return total / labelled


def _loops(people: Sequence[ReferredPerson], found: Found, overlap: Any) -> dict[str, float]:
    """The definitions, word by word; one record per person."""
    samples = pairs = picks = accurate = swaps = 0
    picked = {}
    for person in people:
        others = [p for p in people if p.file_name == person.file_name and p is not person]
        if not others:
            continue
        own = overlap(person, person, found)
        pick = all(own > overlap(person, other, found) for other in others)
        picked[person.image_id] = pick
        samples += 1
        picks += pick
        accurate += pick and own >= 0.5
    for a, b in combinations(people, 2):
        if a.file_name == b.file_name:
            pairs += 1
            swaps += picked[a.image_id] and picked[b.image_id]
    return {
        "pick": picks / samples,
        "referring_acc": accurate / samples,
        "swap": swaps / pairs,
    }


@pytest.mark.parametrize("seed", range(6))
def test_it_is_what_plain_loops_say(seed: int) -> None:
    rng = np.random.default_rng(seed)
    people = _people(rng)
    found = _found(rng, people)
    labelled = [person for person in people if (person.keypoints[:, 2] > 0).any()]
    by_pose = _loops(labelled, found, _loop_oks)
    expected = {
        **_loops(people, found, _loop_iou),
        "mean_OKS": sum(_loop_oks(p, p, found) for p in labelled) / len(labelled),
        **{f"pose_{name}": value for name, value in by_pose.items()},
    }
    assert len(labelled) < len(people)
    assert all(0 < value < 1 for value in expected.values()), expected
    assert _evaluate(people, found) == pytest.approx(expected, abs=1e-12)


def test_perfect_answers_are_all_right() -> None:
    people = _people(np.random.default_rng(0))
    found = {p.image_id: _shown(p) for p in people}
    assert _evaluate(people, found) == pytest.approx(dict.fromkeys(MASK_NAMES + POSE_NAMES, 1.0))


def test_answers_that_ignore_the_prompt_never_swap() -> None:
    people = _people(np.random.default_rng(1))
    found = {}
    for person in people:
        first = next(p for p in people if p.file_name == person.file_name)
        found[person.image_id] = _shown(first)
    metrics = _evaluate(people, found)
    assert metrics["swap"] == metrics["pose_swap"] == 0
    # Images have 1, 2, 3 and 4 people, and one of them is always the right one.
    samples = [p for p in people if p.file_name not in ("0.jpg", "4.jpg")]
    right = len({p.file_name for p in samples})
    assert metrics["pick"] == metrics["referring_acc"] == pytest.approx(right / len(samples))


def test_answers_for_each_others_place_are_all_wrong() -> None:
    people = [p for p in _people(np.random.default_rng(2)) if p.file_name == "1.jpg"]
    a, b = _labelled(people)
    metrics = _evaluate([a, b], {a.image_id: _shown(b), b.image_id: _shown(a)})
    assert all(metrics[name] == 0 for name in [*MASK_NAMES, "pose_pick", "pose_swap"])


def test_by_hand() -> None:
    overlaps = np.array([[0.6, 0.3, 0.0], [0.2, 0.4, 0.1], [0.7, 0.1, 0.7]])
    three = Confusion(overlaps, np.arange(3))
    np.testing.assert_array_equal(three.own, [0.6, 0.4, 0.7])
    np.testing.assert_array_equal(three.picked, [True, True, False])  # the last one is a tie
    alone = Confusion(np.array([[0.9]]), np.arange(1))
    metrics = summarize_confusions([three, alone])
    assert metrics == pytest.approx({"pick": 2 / 3, "referring_acc": 1 / 3, "swap": 1 / 3})


def test_whom_a_detection_shows() -> None:
    overlaps = [[0.2, 0.01, 0.0], [0.2, 0.2, 0.1], [0.0, 0.0, 0.0], [0.0, 0.0, 0.001]]
    assert shown_person(np.array(overlaps)).tolist() == [0, -1, -1, 2]
    assert shown_person(np.array([0.1])) == 0


def test_an_overlap_of_exactly_one_half_is_accurate() -> None:
    two = Confusion(np.array([[0.5, 0.1], [0.1, np.nextafter(0.5, 0)]]), np.arange(2))
    assert summarize_confusions([two]) == {"pick": 1, "referring_acc": 0.5, "swap": 1}


def test_ties_are_no_picks() -> None:
    left, right = np.zeros(SIZE, dtype=np.uint8, order="F"), np.zeros(SIZE, np.uint8, order="F")
    left[10:20, 10:20] = right[10:20, 30:40] = 1
    keypoints = np.full((17, 3), 2.0)
    a = _person(1, "a.jpg", left, keypoints)
    b = _person(2, "a.jpg", right, keypoints + np.array([40, 0, 0]))
    centre = np.full((17, 2), 2.0) + np.array([20, 0])
    nothing = np.zeros_like(left)
    for mask in (left | right, nothing):
        metrics = _evaluate([a, b], {1: (mask, centre), 2: (mask, centre)})
        assert metrics.pop("mean_OKS") < 0.1
        assert set(metrics.values()) == {0.0}


def test_missing_answers_are_wrong() -> None:
    people = _labelled([p for p in _people(np.random.default_rng(3)) if p.file_name == "2.jpg"])
    found = {p.image_id: _shown(p) for p in people[:2]}
    expected = dict.fromkeys(MASK_NAMES + POSE_NAMES, 2 / 3) | {"swap": 1 / 3, "pose_swap": 1 / 3}
    assert _evaluate(people, found) == pytest.approx(expected)
    assert set(_evaluate(people, {}).values()) == {0.0}


def test_people_who_are_alone_count_in_the_mean_oks_only() -> None:
    alone = [p for p in _people(np.random.default_rng(4)) if p.file_name in ("0.jpg", "4.jpg")]
    alone = _labelled(alone)
    found = {p.image_id: _shown(p) for p in alone}
    metrics = _evaluate(alone, found)
    assert metrics.pop("mean_OKS") == pytest.approx(1)
    assert all(math.isnan(value) for value in metrics.values())
    assert all(math.isnan(value) for value in _evaluate([], {}).values())


def test_several_captions_of_a_person_are_no_rivals() -> None:
    """Two people, one of them described twice: three samples, and two pairs to tell apart."""
    a, b = (p for p in _people(np.random.default_rng(5)) if p.file_name == "1.jpg")
    again = replace(a, image_id=99, annotation_id=99, caption="the same")
    (image,) = group_by_image([a, b, again])
    assert image.people == (a, b)
    np.testing.assert_array_equal(image.referred, [0, 1, 0])
    shown = {a.image_id: a, b.image_id: b, again.image_id: b}
    found = {i: _shown(p) for i, p in shown.items()}
    metrics = mask_referring([a, b, again], _encoded(found))
    assert metrics == pytest.approx({"pick": 2 / 3, "referring_acc": 2 / 3, "swap": 1 / 2})


def _exact(people: Sequence[ReferredPerson]) -> dict[str, float]:
    """Metrics of answers that equal their own annotations."""
    return _evaluate(people, {person.image_id: _shown(person) for person in people})


def test_a_person_in_two_rows_is_one_whatever_the_notation() -> None:
    """A mask drawn anew, keypoints hidden for visible: exact answers are all right."""
    a, b = _labelled([p for p in _people(np.random.default_rng(5)) if p.file_name == "1.jpg"])
    rows = [a, b]
    for number, one in enumerate((a, b)):
        mask = one.mask().copy()
        top = np.flatnonzero(mask.any(1))[: len(np.flatnonzero(mask.any(1))) // 2]
        mask[top] = 0  # the lower half
        counts = coco_mask.encode(np.asfortranarray(mask))["counts"]
        hidden = np.where(one.keypoints[:, 2:] > 0, 1, 0)
        keypoints = np.column_stack([one.keypoints[:, :2] + 0.5, hidden]).astype(np.float32)
        again = replace(one, image_id=90 + number, counts=counts, keypoints=keypoints)
        rows += [again, replace(one, image_id=95 + number, keypoints=one.keypoints.round())]
    assert _exact(rows) == pytest.approx(dict.fromkeys(MASK_NAMES + POSE_NAMES, 1.0))
    (image,) = group_by_image(rows)
    assert image.people == (a, b)
    assert image.restated == [2, 3, 4, 5]
    assert image.people_by(4) == (a, rows[4])
    assert _exact(rows[::-1]) == _exact(rows)
    distractors = [rows[3], rows[5]]
    (beside,) = group_by_image([a], distractors)
    assert beside.people == (a, rows[5])


def test_a_name_in_two_sizes_is_two_images() -> None:
    a, b = (p for p in _people(np.random.default_rng(5)) if p.file_name == "1.jpg")
    other = replace(b, height=SIZE[0] * 2, counts=b"")
    assert [image.annotations for image in group_by_image([a, other])] == [(a,), (other,)]


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_the_order_changes_nothing(seed: int) -> None:
    rng = np.random.default_rng(seed)
    people = _people(rng, images=4)
    found = _found(rng, people)
    shuffled = [people[i] for i in rng.permutation(len(people))]
    masks, poses = _encoded(found), {image_id: pose for image_id, (_, pose) in found.items()}
    reverse = dict(reversed(masks.items())), dict(reversed(poses.items()))
    here = {**mask_referring(people, masks), **pose_referring(people, poses)}
    there = {**mask_referring(shuffled, reverse[0]), **pose_referring(shuffled, reverse[1])}
    assert set(here) == set(MASK_NAMES + POSE_NAMES)
    # Equal to the last bit, and NaN where NaN.
    np.testing.assert_array_equal([here[name] for name in there], list(there.values()))


def test_people_whom_nobody_asks_for_are_told_apart_from() -> None:
    rng = np.random.default_rng(5)
    asked, bystander, elsewhere = (
        _labelled([_person(i, name, _blob(rng), rng.uniform(0, 40, (17, 3)))])[0]
        for i, name in enumerate(["a.jpg", "a.jpg", "b.jpg"])
    )
    others = [bystander, elsewhere]
    for shown, expected in ((asked, 1.0), (bystander, 0.0)):
        mask = coco_mask.encode(np.asfortranarray(shown.mask(), dtype=np.uint8))["counts"]
        masks = {asked.image_id: mask.decode("ascii")}
        poses = {asked.image_id: shown.keypoints.astype(np.float64)}
        assert mask_referring([asked], masks, others)["pick"] == expected
        assert pose_referring([asked], poses, others)["pose_pick"] == expected
        assert math.isnan(mask_referring([asked], masks)["pick"])
    assert math.isnan(mask_referring([asked], masks, others)["swap"])  # nobody to exchange with
