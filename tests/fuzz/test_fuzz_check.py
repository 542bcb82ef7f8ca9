"""The check of data sets with anything in them: what training refuses is found, and mended."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fuzz.cases import share
from tests.fuzz.test_fuzz_annotations import GOOD, VALUES, changes
from uniphd.data.annotations import load_annotations
from uniphd.data.images import ImageFacts
from uniphd.datatools.check.files import DataFile
from uniphd.datatools.check.fixing import mend_folder
from uniphd.datatools.check.image_files import ImageFile
from uniphd.datatools.check.kinds import KINDS
from uniphd.datatools.check.run import FolderCheck, check_files, image_keys
from uniphd.errors import AnnotationError


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("check")


def files_of(content: Any, folder: Path) -> FolderCheck:
    """The check of a content whose images are all there, of the good file's size."""
    file = DataFile("RefHuman_train.json", content, folder)
    size = GOOD["images"][0]["height"], GOOD["images"][0]["width"]
    sizes = {entry["file_name"]: (entry["height"], entry["width"]) for entry in GOOD["images"]}
    images = {
        key: ImageFile(key[1], "", "", ImageFacts(sizes.get(key[1], size)), f"digest of {key[1]}")
        for key in image_keys(file)
    }
    return FolderCheck(folder, check_files([file], images), images)


def categories() -> st.SearchStrategy[Any]:
    """Lists of categories, some of which make sense."""
    entry = st.fixed_dictionaries(
        {},
        optional={
            "id": st.sampled_from([0, 1, 2, "1", None]),
            "name": st.sampled_from(["person", "Person ", "dog", "", 7]),
            "keypoints": st.sampled_from([[], ["nose"], "nose", None]),
        },
    )
    return st.one_of(VALUES, st.lists(st.one_of(entry, VALUES), max_size=3))


@share(0.08)
@given(case=changes(), listed=st.one_of(st.none(), categories()))
def test_what_training_refuses_is_found_and_mended(
    case: tuple[dict[str, Any], set[int]], listed: Any, folder: Path
) -> None:
    content, _ = case
    if listed is not None:
        content["categories"] = listed
    path = folder / "file.json"
    path.write_text(json.dumps(content))
    before = copy.deepcopy(content)
    checked = files_of(content, folder)
    found = {finding.kind for finding in checked.findings}
    try:
        load_annotations(path)
    except AnnotationError:
        assert found
    fix = mend_folder(checked)
    assert json.dumps(content) == json.dumps(before)
    for file in fix.files:
        again = check_files([file], {**checked.images})
        assert all(KINDS[f.kind].stays for check in again for f in check.findings)
        assert file.content is not None
        path.write_text(json.dumps(file.content))
        if file.content["images"] and not file.is_coco_form:
            assert load_annotations(path).instances


def test_the_good_file_is_clean(folder: Path) -> None:
    assert not files_of(copy.deepcopy(GOOD), folder).findings
