"""Mending a folder: problems are mended kind by kind, and checked again until nothing is found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from uniphd.datatools.check.files import DataFile
from uniphd.datatools.check.finding import Finding
from uniphd.datatools.check.image_files import ImageKey
from uniphd.datatools.check.kinds import KINDS
from uniphd.datatools.check.mending import Change, Mending
from uniphd.datatools.check.run import FileCheck, FolderCheck, check_files
from uniphd.datatools.packed_json import unpacked

_ROUNDS = 12  # one mend may uncover another problem, but not often
_ORDER = {name: place for place, name in enumerate(KINDS)}


@dataclass
class Fix:
    """What is to be written.

    Attributes:
        files: that could be mended.
        rewritten: images that are stored anew, and how.
        log: of all changes.
        left_out: files that could not be mended.
    """

    files: list[DataFile] = field(default_factory=list)
    rewritten: dict[ImageKey, str] = field(default_factory=dict)
    log: list[Change] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)


def mend_folder(checked: FolderCheck) -> Fix:
    """Mend what has a known right value and leave out the rest, in copies of the files.

    Args:
        checked: the folder and what is wrong with it.
    """
    fix, images = Fix(), dict(checked.images)
    files = [
        replace(check.file, content=check.file.content and unpacked(check.file.content))
        for check in checked.checks
    ]
    checks: Sequence[FileCheck] = checked.checks
    for number in range(_ROUNDS):
        kept = []
        for file, check in zip(files, checks, strict=True):
            form = check.form
            if form is None or not _mend_file(
                Mending(file, form, images, fix.log, fix.rewritten), check.findings, number
            ):
                fix.left_out.append(file.name)
                _log_left_out(check.findings, fix.log)
                continue
            file.findings.clear()
            kept.append(file)
        files = kept
        checks = check_files(files, images)
        if all(KINDS[finding.kind].stays for check in checks for finding in check.findings):
            break
    fix.files = files
    return fix


def _mend_file(mending: Mending, findings: Sequence[Finding], number: int) -> bool:
    """Mend what is found; False where the file as a whole cannot be."""
    for finding in sorted(findings, key=lambda found: _ORDER[found.kind]):
        kind = KINDS[finding.kind]
        if kind.stays or mending.is_dropped(finding):
            continue
        lasting = number >= _ROUNDS - 2  # what comes back again and again
        if kind.mend is not None and not lasting and kind.mend(mending, finding):
            continue
        if finding.image_place is None and finding.annotation_place is None:
            return False
        mending.drop(finding)
    mending.forget_dropped()
    return True


def _log_left_out(findings: Sequence[Finding], log: list[Change]) -> None:
    for finding in findings:
        kind, places = KINDS[finding.kind], (finding.image_place, finding.annotation_place)
        if places == (None, None) and kind.mend is None and not kind.stays:
            log.append(Change(finding.file, finding.kind, "", "", finding.value, "dropped", True))
