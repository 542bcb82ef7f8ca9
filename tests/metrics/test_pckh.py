from __future__ import annotations

import numpy as np
import pytest

from uniphd.keypoints import COCO17
from uniphd.metrics.pckh import pckh_counts


@pytest.fixture
def person() -> np.ndarray:
    """Ears 20 pixels apart, so the limit is 10 pixels; 15 keypoints labelled."""
    target = np.zeros((17, 3))
    target[:, 0] = np.arange(17) * 50
    target[:, 2] = 2
    target[3, :2], target[4, :2] = (100, 100), (112, 116)
    target[[9, 10], 2] = 0
    return target


def test_perfect(person: np.ndarray) -> None:
    assert pckh_counts(person, person, COCO17.head) == (15, 15)


def test_the_limit_itself_is_correct(person: np.ndarray) -> None:
    at_limit, beyond = person.copy(), person.copy()
    at_limit[:, 0] += 10
    beyond[:, 0] += 10.001
    assert pckh_counts(at_limit, person, COCO17.head) == (15, 15)
    assert pckh_counts(beyond, person, COCO17.head) == (0, 15)
    assert pckh_counts(beyond, person, COCO17.head, threshold=0.51) == (15, 15)


def test_hidden_keypoints_count_and_unlabelled_do_not(person: np.ndarray) -> None:
    person[0, 2] = 1
    moved = person.copy()
    moved[[0, 9], 1] += 1000
    assert pckh_counts(moved, person, COCO17.head) == (14, 15)


@pytest.mark.parametrize("ear", [3, 4])
def test_without_both_ears_nothing_counts(person: np.ndarray, ear: int) -> None:
    person[ear, 2] = 0
    assert pckh_counts(person, person, COCO17.head) == (0, 0)


def test_no_prediction_is_all_wrong(person: np.ndarray) -> None:
    assert pckh_counts(np.full((17, 2), np.nan), person, COCO17.head) == (0, 15)
