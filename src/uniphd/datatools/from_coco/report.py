"""What a conversion did, as text and as plain values."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_SHOWN = 10  # names of missing images


@dataclass
class Report:
    """Numbers of people unless said otherwise.

    Attributes:
        file: the COCO file.
        annotations: in it.
        left_out: by rule or problem; those of other classes are annotations.
        missing: names of images that are not there, each once.
        expressions: a line per source of captions.
        people: taken.
        images: in which they are.
        described: people by source of their captions.
        captions: of all of them.
        entries: written; more than people where every caption has one.
    """

    file: Path
    annotations: int = 0
    left_out: Counter[str] = field(default_factory=Counter)
    missing: list[str] = field(default_factory=list)
    expressions: Sequence[str] = ()
    people: int = 0
    images: int = 0
    described: Counter[str] = field(default_factory=Counter)
    captions: int = 0
    entries: int = 0

    def lines(self) -> list[str]:
        """The report, line by line."""
        text = sum(self.described.values())
        sources = ", ".join(f"{name} {count:,}" for name, count in sorted(self.described.items()))
        return [
            f"{self.file}: {self.annotations:,} annotations",
            *(f"  left out: {count:>9,}  {name}" for name, count in self.left_out.items() if count),
            *self._missing(),
            *(f"  {line}" for line in self.expressions),
            f"  taken:    {self.people:>9,}  people in {self.images:,} images, in "
            f"{self.entries:,} entries",
            f"  with text:{text:>9,}  people, {self.captions:,} captions"
            + (f" ({sources})" if sources else ""),
        ]

    def _missing(self) -> list[str]:
        if not self.missing:
            return []
        named = ", ".join(self.missing[:_SHOWN])
        rest = f" and {len(self.missing) - _SHOWN:,} more" if len(self.missing) > _SHOWN else ""
        return [f"  missing images: {named}{rest}"]

    def values(self) -> dict[str, Any]:
        """The numbers, for the `info` of the new file."""
        return {
            "annotations": self.annotations,
            "left_out": {name: count for name, count in self.left_out.items() if count},
            "missing_images": len(self.missing),
            "people": self.people,
            "images": self.images,
            "described": dict(sorted(self.described.items())),
            "captions": self.captions,
            "entries": self.entries,
        }
