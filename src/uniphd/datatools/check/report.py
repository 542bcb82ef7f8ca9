"""What is found, as a table and as JSON."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from uniphd.datatools.check.finding import Finding
from uniphd.datatools.check.kinds import KINDS
from uniphd.datatools.check.mending import Change
from uniphd.datatools.check.run import FolderCheck
from uniphd.errors import printable

_EXAMPLES = 3
_SHOWN, _LONGEST = 80, 200  # characters of a value, and of a note


def problem_lines(findings: Sequence[Finding]) -> Iterator[str]:
    """A table of kinds: how often, what training does about each, and below it the first examples.

    Args:
        findings: at least one.
    """
    kinds = list(by_kind(findings))
    width = max(len(name) for name, _ in kinds)
    yield f"{'problem':{width}}  {'count':>9}  before training"
    for name, found in kinds:
        yield f"{name:{width}}  {len(found):>9,}  {KINDS[name].training}"
        yield from (f"    {_example(finding)}" for finding in found[:_EXAMPLES])


def by_kind(findings: Iterable[Finding]) -> Iterator[tuple[str, list[Finding]]]:
    """Findings by kind, in the order of the kinds."""
    groups: dict[str, list[Finding]] = defaultdict(list)
    for finding in findings:
        groups[finding.kind].append(finding)
    yield from ((name, groups[name]) for name in KINDS if name in groups)


def as_json(checked: FolderCheck) -> dict[str, Any]:
    """All that is found, for programs."""
    problems = {
        name: {
            "meaning": KINDS[name].meaning,
            "training": KINDS[name].training,
            "mended": KINDS[name].mended,
            "count": len(found),
            "findings": [_plain(finding) for finding in found],
        }
        for name, found in by_kind(checked.findings)
    }
    return {
        "root": str(checked.root),
        "status": checked.status,
        "people": {check.file.name: len(check.records) for check in checked.checks},
        "images": len(checked.images),
        "problems": problems,
    }


def change_lines(log: Sequence[Change]) -> Iterator[str]:
    """How many changes of each kind there are, one kind a line."""
    counts: dict[tuple[str, bool], int] = defaultdict(int)
    for change in log:
        counts[change.kind, change.dropped] += 1
    for (kind, dropped), count in counts.items():
        yield f"{'left out' if dropped else 'mended'}: {count:,} x {kind}"


def _example(finding: Finding) -> str:
    where = ", ".join(part for part in (finding.file, finding.where) if part)
    said = describe(finding)
    return printable(f"{where}: {said}" if said else where)


def describe(finding: Finding) -> str:
    """The field, its value and the note of a finding, short; it may hold anybody's text."""
    value = " ".join(part for part in (finding.field, finding.value[:_SHOWN]) if part)
    repeats = finding.note.startswith(("'", f"{finding.field} "))  # the value, in a sentence
    note = "" if repeats else finding.note[:_LONGEST]
    return ", ".join(part for part in (value, note) if part)


def _plain(finding: Finding) -> dict[str, Any]:
    return {
        "file": finding.file,
        "image_id": finding.image_id,
        "annotation_id": finding.annotation_id,
        "field": finding.field,
        "value": finding.value,
        "note": finding.note,
    }
