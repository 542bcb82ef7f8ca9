"""People and judged answers for the tests of the analysis."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from tests.visualization.conftest import MakePerson
from tests.visualization.conftest import drawn as drawn
from tests.visualization.conftest import make_person as make_person
from tests.visualization.conftest import rendered as rendered
from uniphd.analysis.results import Crowd, Outcome
from uniphd.prompts import PromptKind

MakeOutcome = Callable[..., Outcome]


@pytest.fixture(scope="session")
def make_outcome(make_person: MakePerson) -> MakeOutcome:
    """An answer among people at x = 20, 60, 100, ... with given overlaps."""

    def make(
        kind: PromptKind = "text",
        overlaps: tuple[float, ...] = (0.8, 0.0),
        meant: int = 0,
        oks: float = 0.5,
        offset: float = 0.0,
        lefts: tuple[int, ...] = (20, 60, 100, 140),
        file_name: str = "a.jpg",
    ) -> Outcome:
        people = tuple(
            make_person(place + 1, left, file_name)
            for place, left in enumerate(lefts[: len(overlaps)])
        )
        record = people[meant]
        return Outcome(
            record=record,
            kind=kind,
            crowd=Crowd(people, meant),
            score=0.9,
            keypoints=record.keypoints[:, :2] + np.array([offset, 0.0]),
            visible=np.ones(17, dtype=bool),
            counts=record.counts,
            overlaps=np.array(overlaps),
            oks=oks,
        )

    return make
