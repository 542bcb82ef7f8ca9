"""One thing that is wrong with a data set, and where."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Entry: TypeAlias = Mapping[str, Any]


@dataclass(frozen=True, slots=True, eq=False)
class Finding:
    """One thing that is wrong.

    Attributes:
        kind: a name of `uniphd.datatools.check.kinds`.
        file: the annotation file, inside the folder.
        field: of the entry; empty where it is about the entry or file as a whole.
        value: that the field has, short.
        note: what the value seems to be, or more about it.
        image_place: of the entry in the list `images`; None where it is about none.
        annotation_place: of the entry in the list `annotations`.
        image_id: of the two entries, as the file has it.
        annotation_id: of the annotation, as the file has it.
        points: (P, 2) what the points of the field are in pixels, where that is known; NaN where
            there is none.
        systematic: whether it is so in the file as a whole.
        other_place: of another annotation that it is compared with.
    """

    kind: str
    file: str
    field: str = ""
    value: str = ""
    note: str = ""
    image_place: int | None = None
    annotation_place: int | None = None
    image_id: Any = None
    annotation_id: Any = None
    points: npt.NDArray[np.float64] | None = None
    systematic: bool = False
    other_place: int | None = None

    @property
    def where(self) -> str:
        """The ids, in words."""
        ids = [("image id", self.image_id), ("annotation id", self.annotation_id)]
        return ", ".join(f"{name} {value}" for name, value in ids if value is not None)
