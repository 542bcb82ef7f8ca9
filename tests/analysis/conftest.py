"""People and judged detections for the tests of the analysis."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from tests.visualization.conftest import MakePerson
from tests.visualization.conftest import drawn as drawn
from tests.visualization.conftest import make_person as make_person
from tests.visualization.conftest import rendered as rendered
from uniphd.analysis.results import Result

MakeResult = Callable[..., Result]


@pytest.fixture(scope="session")
def make_result(make_person: MakePerson) -> MakeResult:
    """A detection among people at x = 20, 60, 100, ... with given overlaps."""

    def make(
        overlaps: tuple[float, ...] = (0.8, 0.0),
        referred: int = 0,
        kind: str = "text",
        oks: float = 0.5,
        offset: float = 0.0,
        lefts: tuple[int, ...] = (20, 60, 100, 140),
        file_name: str = "a.jpg",
    ) -> Result:
        people = tuple(
            make_person(place + 1, left, file_name)
            for place, left in enumerate(lefts[: len(overlaps)])
        )
        person = people[referred]
        return Result(
            annotation=person,
            kind=kind,
            people=people,
            referred=referred,
            score=0.9,
            keypoints=person.keypoints[:, :2] + np.array([offset, 0.0]),
            visible=np.ones(17, dtype=bool),
            counts=person.counts,
            overlaps=np.array(overlaps),
            oks=oks,
        )

    return make
