"""The kinds of problems: what each means, what training does about it, and how it is mended.

A kind is one entry of `KINDS`. Problems are mended in the order of this table, since boxes need
masks, and everything needs ids.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from uniphd.datatools.check import mend_entries as entries
from uniphd.datatools.check import mend_fields as fields
from uniphd.datatools.check.finding import Finding
from uniphd.datatools.check.mending import Mending

Mend: TypeAlias = Callable[[Mending, Finding], bool]
"""Changes the file and returns True, or returns False where nobody knows the right value."""

REFUSED, SKIPPED, WARNED, READ, UNSEEN = (
    "refused",
    "left out and counted",
    "warned of",
    "read rightly",
    "not looked at",
)
"""What training does about a kind. `data.on_error=skip` leaves out what is refused."""


@dataclass(frozen=True)
class Kind:
    """A kind of problem.

    Attributes:
        name: by which findings name it.
        meaning: a clause, what is wrong.
        training: what training does about it.
        mended: a clause, what `--fix` does.
        mend: does it; None where people are left out.
        stays: whether it stays as it is.
    """

    name: str
    meaning: str
    training: str
    mended: str = "left out"
    mend: Mend | None = None
    stays: bool = False


_FILES = (
    Kind("unreadable file", "no JSON with the lists `images` and `annotations`", REFUSED),
    Kind(
        "not in UTF-8",
        "an encoding of one byte per letter",
        REFUSED,
        "read as Windows-1252 and written in UTF-8",
        entries.write_utf8,
    ),
    Kind(
        "COCO form",
        "no image has a caption, and an image may have several people: a COCO file, such as an "
        "annotation tool's export, and not RefHuman's form; `uniphd-data from-coco` converts it",
        REFUSED,
        "kept",
        stays=True,
    ),
    Kind(
        "no category of people",
        "`categories` has no person, or cannot be read",
        REFUSED,
        "the only category with keypoints is called person",
        entries.name_people,
    ),
    Kind("other keypoints", "`categories` names other keypoints than any known set", REFUSED),
    Kind(
        "person is not category 1",
        "people have another id, such as 0; readers of COCO expect 1",
        READ,
        "numbered anew",
        entries.make_people_category_one,
    ),
    Kind(
        "keypoints in another order",
        "`categories` names the keypoints of the set in another order",
        READ,
        "put into the set's order",
        entries.reorder_keypoints,
    ),
    Kind(
        "keypoints in another order than named",
        "limbs are short in another order than the one that `categories` says",
        UNSEEN,
        "put into the set's order",
        entries.reorder_keypoints,
    ),
)
_ENTRIES = (
    Kind(
        "missing id",
        "an id is missing or no integer",
        REFUSED,
        "numbered anew, or an integer made of the text; images without id are left out",
        entries.give_id,
    ),
    Kind(
        "repeated image id",
        "several entries of `images` have one id",
        REFUSED,
        "another caption of the same image gets an id of its own; otherwise left out",
        entries.separate_images,
    ),
    Kind(
        "several annotations",
        "an image id has several people, so the caption may be anybody's",
        REFUSED,
        "copies of the first are left out; otherwise all are",
        entries.keep_one,
    ),
    Kind(
        "repeated annotation id",
        "several annotations have one id",
        REFUSED,
        "numbered anew",
        entries.renumber,
    ),
    Kind("crowd", "`iscrowd` is not 0", SKIPPED),
    Kind("annotation without image", "its `image_id` is not in `images`", SKIPPED),
    Kind("image without annotation", "an image id has no person", SKIPPED),
    Kind("person without keypoints", "no keypoint is labelled", SKIPPED),
    Kind("zeroed track", "box and keypoints are 0, as where a track of CVAT has ended", SKIPPED),
    Kind("not a person", "`category_id` is that of something else", REFUSED),
    Kind("missing category_id", "the file has several categories, and this has none", REFUSED),
)
_IMAGES = (
    Kind("missing file_name", "the image has no name", REFUSED),
    Kind("wrong file_name", "the name is no text", REFUSED),
    Kind(
        "unsafe path",
        "the name leads out of the image folder",
        REFUSED,
        "the image of that name in the folder, if there is one",
        entries.correct_name,
    ),
    Kind("backslash", r"the name has `\`", READ, "`/` in its place", entries.correct_name),
    Kind(
        "file name in another Unicode form",
        "letters with accents are one sign in the one name and two in the other",
        REFUSED,
        "the name in the folder",
        entries.correct_name,
    ),
    Kind(
        "file name in another letter case",
        "such as `.JPG` and `.jpg`",
        REFUSED,
        "the name in the folder",
        entries.correct_name,
    ),
    Kind(
        "image in another folder",
        "an image of this name is elsewhere in the image folder",
        REFUSED,
        "the name in the folder",
        entries.correct_name,
    ),
    Kind(
        "link out of the folder",
        "a link leads out of the image folder, and of those that `--linked-folder` names",
        REFUSED,
        "the image is copied",
        entries.copy_linked,
    ),
    Kind("missing image", "there is no such file", REFUSED),
    Kind("unreadable image", "the file is cut off, damaged, or no image", REFUSED),
    Kind("missing height", "`height` is missing", REFUSED, "the image's", entries.size_from_image),
    Kind("missing width", "`width` is missing", REFUSED, "the image's", entries.size_from_image),
    Kind(
        "wrong size",
        "`height` or `width` is no positive integer",
        REFUSED,
        "the image's",
        entries.size_from_image,
    ),
    Kind(
        "turned image",
        "height and width are those of the image as EXIF turns it",
        REFUSED,
        "stored upright",
        entries.turn_image,
    ),
    Kind(
        "image size",
        "the image has another size than the entry says",
        REFUSED,
        "the image's where height and width are exchanged, or the mask has its size",
        entries.size_from_image,
    ),
    Kind(
        "EXIF orientation",
        "viewers turn or mirror the image, and nothing says whether it was annotated so",
        WARNED,
        "stored as training reads it, without the orientation",
        entries.remove_orientation,
    ),
    Kind(
        "image under two names",
        "two names have the same bytes, so training takes its people for those of two images",
        UNSEEN,
        "the first name",
        entries.use_first_name,
    ),
    Kind("height and width exchanged", "the box fits in the image only then", REFUSED),
)
_SHAPES = (
    Kind("missing segmentation", "there is no mask", REFUSED),
    Kind(
        "wrong segmentation",
        "neither polygons nor run lengths of the image",
        REFUSED,
        "polygons that are some are kept",
        fields.drop_polygons,
    ),
    Kind(
        "polygon without three corners",
        "a polygon has fewer than 3 corners, or an odd number of coordinates",
        REFUSED,
        "the other polygons are kept",
        fields.drop_polygons,
    ),
    Kind(
        "mask of another size",
        "run lengths are for another size than the image's",
        REFUSED,
        "exchanged, or resized, if that fits the box",
        fields.resize_mask,
    ),
    Kind("empty mask", "the mask has no pixel on the image", REFUSED),
    Kind("degenerate mask", "the mask is thinner than 2 pixels", READ),
    Kind(
        "NaN or infinite number",
        "a field has one",
        REFUSED,
        "box and area from the mask, scribbles drawn anew, keypoints unlabelled",
        fields.mend_numbers,
    ),
    *(
        Kind(name, meaning, REFUSED, "the mask's box", fields.box_from_mask)
        for name, meaning in (
            ("missing bbox", "there is no box"),
            ("wrong bbox", "the box is not four numbers"),
            ("box without area", "a side of the box is 0 or negative"),
            (
                "box against the mask",
                "box and mask's box have an IoU below 0.5: corners, centre, fractions, ...",
            ),
            (
                "box of the keypoints",
                "the box is the smallest around the keypoints, as CVAT has for skeletons",
            ),
        )
    ),
    Kind(
        "box outside of the image",
        "the box leaves the image by more than a pixel",
        REFUSED,
        "clipped, or the mask's box where they do not fit",
        fields.clip_box,
    ),
    Kind(
        "box counted from 1",
        "boxes are a pixel too far right and down in the file as a whole",
        UNSEEN,
        "the mask's box",
        fields.box_from_mask,
    ),
    *(
        Kind(name, meaning, REFUSED, "the mask's pixels", fields.area_from_mask)
        for name, meaning in (
            ("missing area", "there is no area"),
            ("wrong area", "the area is no number above 0, or larger than the image"),
            (
                "area against the mask",
                "area and mask's pixels differ by a factor above 1.5, or it is the box's area",
            ),
        )
    ),
    Kind("missing keypoints", "there are no keypoints", REFUSED),
    Kind("wrong keypoints", "not three numbers for each keypoint of the set", REFUSED),
    Kind("no keypoints", "none is labelled", REFUSED),
    *(
        Kind(name, meaning, training, "unlabelled", fields.unlabel_keypoints)
        for name, meaning, training in (
            ("wrong visibility", "a visibility other than 0, 1, 2, such as a score", REFUSED),
            ("keypoint outside of the image", "by more than a pixel", REFUSED),
            ("labelled keypoint at (0, 0)", "it is labelled and has no place", UNSEEN),
        )
    ),
    Kind(
        "num_keypoints",
        "it is not how many are labelled",
        UNSEEN,
        "counted",
        fields.count_keypoints,
    ),
    Kind(
        "box and keypoints against the mask",
        "they fit each other and not the mask",
        REFUSED,
        "the mask's box, and what the keypoints fit as, if the whole file is so",
        fields.boxes_then_keypoints,
    ),
    Kind(
        "keypoints against the mask",
        "fewer than half of them lie in the mask's box: y before x, fractions, another person's, "
        "other scales, ...",
        REFUSED,
        "what the whole file fits as; exchanged between two people",
        fields.reread_keypoints,
    ),
    *(
        Kind(name, meaning, REFUSED, "drawn anew", fields.draw_scribbles_anew)
        for name, meaning in (
            ("missing scribble", "there are no scribbles; prompt=text needs none"),
            ("wrong scribble", "not five strokes of twelve points"),
            ("scribble outside of the mask", "a point is off the mask"),
            ("scribbles against the mask", "fewer than half of the points lie in the mask's box"),
        )
    ),
)
_TEXTS = (
    Kind(
        "missing caption",
        "no caption, or only blanks",
        REFUSED,
        "the first of `captions`, if there is one",
        entries.take_other_caption,
    ),
    Kind(
        "wrong caption",
        "the caption is no text",
        REFUSED,
        "the first text of a list",
        entries.take_other_caption,
    ),
    Kind(
        "wrong captions",
        "`captions` is no list of texts",
        REFUSED,
        "what is text is kept",
        entries.keep_texts,
    ),
    Kind(
        "long caption",
        "more than 1,000 characters",
        UNSEEN,
        "left out, of `captions` the text alone",
        entries.drop_caption,
    ),
    Kind(
        "wrongly decoded text",
        "UTF-8 that was read as Latin-1: `cafÃ©`",
        UNSEEN,
        "decoded rightly",
        entries.repair_text,
    ),
    Kind(
        "lost letters",
        "a text has replacement characters",
        UNSEEN,
        "left out, of `captions` the text alone",
        entries.drop_caption,
    ),
)
_PEOPLE = (
    Kind(
        "repeated person", "the same person with the same caption, perhaps in trifles other", READ
    ),
    Kind(
        "person annotated in two ways",
        "rows of the same person differ in keypoints, mask or box",
        READ,
        "the first row's",
        entries.copy_annotation,
    ),
    Kind("caption of several people", "people of one image have the same caption", UNSEEN),
    Kind(
        "validation image in training",
        "the image is in a validation file, too, by name or by its bytes",
        UNSEEN,
        "left out of the training",
    ),
)

KINDS = {kind.name: kind for kind in (*_FILES, *_ENTRIES, *_IMAGES, *_SHAPES, *_TEXTS, *_PEOPLE)}
"""All kinds by their names, in the order in which they are mended."""
