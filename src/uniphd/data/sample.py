"""An image and the people annotated in it, and the geometry that moves them together.

Pillow moves the image, plain arithmetic the rest. torchvision's v2 functions on `tv_tensors` take
1.05 times as long per sample, and torchvision 0.23 moves keypoints that a crop loses to the border.
Sizes follow DETR, which truncates the longer side.

Coordinates are pixels (x, y) of the image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate

from uniphd.data.annotations import ReferredPerson
from uniphd.keypoints import COCO17, KeypointSchema
from uniphd.structures import Size, Target


@dataclass(frozen=True)
class AnnotatedPerson:
    """What is annotated for one person of an image.

    Attributes:
        caption: the person in words; empty for a person without text.
        other_captions: other words for the same person.
        box: (1, 4) x1, y1, x2, y2, inside the image.
        keypoints: (K, 2) x, y.
        visibility: (K,) bool, True where the keypoint is labelled, hidden or not.
        scribbles: (S, P, 2) x, y.
        mask: (1, h, w) uint8, 1 on the person.
        area: of the mask in square pixels.
        schema: which K keypoints these are.
    """

    caption: str
    other_captions: tuple[str, ...]
    box: Tensor
    keypoints: Tensor
    visibility: Tensor
    scribbles: Tensor
    mask: Tensor
    area: float
    schema: KeypointSchema = COCO17

    @property
    def size(self) -> Size:
        """(height, width) of the image."""
        return self.mask.shape[-2], self.mask.shape[-1]

    @property
    def captions(self) -> tuple[str, ...]:
        """All captions; none for a person without text."""
        return tuple(filter(None, (self.caption, *self.other_captions)))

    @property
    def is_shown(self) -> bool:
        """Whether a pixel of the mask, a box with an area and a labelled keypoint are left."""
        extent = self.box[0, 2:] - self.box[0, :2]
        return bool((extent > 0).all() and self.visibility.any() and self.mask.any())


@dataclass(frozen=True)
class AnnotatedImage:
    """An image with some of the people in it, at least one.

    Attributes:
        image: RGB.
        people: of this image.
    """

    image: Image.Image
    people: tuple[AnnotatedPerson, ...]

    @property
    def size(self) -> Size:
        """(height, width) of the image."""
        return self.image.height, self.image.width


def annotate(image: Image.Image, people: Sequence[ReferredPerson]) -> AnnotatedImage:
    """Put an image and some of its people together."""
    return AnnotatedImage(image, tuple(map(annotated_person, people)))


def annotated_person(person: ReferredPerson) -> AnnotatedPerson:
    """The annotation of a file as tensors; the box is clipped to the image."""
    x, y, width, height = person.bbox
    corners = torch.tensor([[x, y, x + width, y + height]])
    limits = torch.tensor([person.width, person.height] * 2)
    keypoints = torch.from_numpy(person.keypoints)
    return AnnotatedPerson(
        caption=person.caption,
        other_captions=person.other_captions,
        box=torch.minimum(corners, limits).clamp(min=0),
        keypoints=keypoints[:, :2],
        visibility=keypoints[:, 2] > 0,
        scribbles=torch.from_numpy(person.scribbles).float(),
        mask=torch.from_numpy(person.mask())[None],
        area=person.area,
        schema=person.schema,
    )


def flip(annotated: AnnotatedImage) -> AnnotatedImage:
    """Mirror left and right; points go to w - 1 - x, boxes to w - x, keypoints swap sides.

    Captions are left alone, see `uniphd.prompts.sides.mirror_caption`.
    """
    return AnnotatedImage(
        annotated.image.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
        tuple(map(_flip_person, annotated.people)),
    )


def _flip_person(person: AnnotatedPerson) -> AnnotatedPerson:
    order = list(person.schema.flip_order)
    width = person.size[1]
    x1, y1, x2, y2 = person.box.unbind(-1)
    return replace(
        person,
        box=torch.stack([width - x2, y1, width - x1, y2], dim=-1),
        keypoints=_mirror(person.keypoints[order], width),
        visibility=person.visibility[order],
        scribbles=_mirror(person.scribbles, width),
        mask=person.mask.flip(-1),
    )


def resize(annotated: AnnotatedImage, size: Size) -> AnnotatedImage:
    """Resize to (height, width): Pillow's bilinear for the image, nearest for the masks.

    A mask too thin for the new size keeps one pixel.
    """
    if size == annotated.size:
        return annotated
    height, width = size
    return AnnotatedImage(
        annotated.image.resize((width, height), Image.Resampling.BILINEAR),
        tuple(_resize_person(person, size) for person in annotated.people),
    )


def _resize_person(person: AnnotatedPerson, size: Size) -> AnnotatedPerson:
    height, width = size
    ratios = torch.tensor([width / person.size[1], height / person.size[0]])
    return replace(
        person,
        box=person.box * ratios.repeat(2),
        keypoints=person.keypoints * ratios,
        scribbles=person.scribbles * ratios,
        mask=_resize_mask(person.mask, size),
        area=person.area * (height / person.size[0] * width / person.size[1]),
    )


def crop(annotated: AnnotatedImage, top: int, left: int, size: Size) -> AnnotatedImage | None:
    """Cut out a window; None where it does not show every person, see `is_shown`.

    Boxes are clipped and areas counted anew in the cropped mask (DETR takes the clipped box's,
    which is about twice as large and would widen the OKS). Keypoints outside of the window lose
    their visibility (the official release keeps them, clamped to the border). Scribbles are only
    shifted.
    """
    people = []
    for person in annotated.people:
        people.append(_crop_person(person, top, left, size))
        if not people[-1].is_shown:
            return None
    height, width = size
    window = annotated.image.crop((left, top, left + width, top + height))
    return AnnotatedImage(window, tuple(people))


def _crop_person(person: AnnotatedPerson, top: int, left: int, size: Size) -> AnnotatedPerson:
    height, width = size
    corner, extent = torch.tensor([left, top]), torch.tensor([width, height])
    keypoints = person.keypoints - corner
    inside = ((keypoints >= 0) & (keypoints < extent)).all(-1)
    mask = person.mask[:, top : top + height, left : left + width]
    return replace(
        person,
        box=torch.minimum(person.box - corner.repeat(2), extent.repeat(2)).clamp(min=0),
        keypoints=keypoints,
        visibility=person.visibility & inside,
        scribbles=person.scribbles - corner,
        mask=mask,
        area=float(mask.count_nonzero()),
    )


def resized_size(size: Size, shorter_side: int, max_size: int | None = None) -> Size:
    """DETR's size for an image: shorter side as asked unless the longer one exceeds `max_size`.

    Args:
        size: (height, width) of the image.
        shorter_side: wanted length of the shorter side.
        max_size: limit of the longer side; where it would be exceeded, the shorter side is
            round(max_size * shorter / longer), and where that is 0, the size is 1 by `max_size`.

    Returns:
        (height, width), the longer side truncated to an integer.
    """
    shorter, longer = float(min(size)), float(max(size))
    if max_size is not None and longer / shorter * shorter_side > max_size:
        shorter_side = round(max_size * shorter / longer)
        if shorter_side == 0:
            return (max_size, 1) if size[1] < size[0] else (1, max_size)
    height, width = size
    if width < height:
        return int(shorter_side * height / width), shorter_side
    return shorter_side, int(shorter_side * width / height)


def image_tensor(image: Image.Image) -> Tensor:
    """The RGB image as (3, h, w) uint8.

    Pillow writes one colour after the other row by row (`;L`), which copies into a batch several
    times as fast as pixel by pixel.
    """
    rows = bytearray(image.tobytes("raw", "RGB;L"))
    return torch.frombuffer(rows, dtype=torch.uint8).view(image.height, 3, -1).transpose(0, 1)


def make_target(person: AnnotatedPerson) -> Target:
    """The training target: coordinates divided by (w, h), the area by w * h."""
    height, width = person.size
    extent = torch.tensor([width, height], dtype=torch.float32)
    first, last = person.box.split(2, dim=1)
    keypoints = person.keypoints / extent
    visibility = person.visibility.float()
    return Target(
        labels=torch.ones(1, dtype=torch.int64),
        boxes=torch.cat([(first + last) / 2 / extent, (last - first) / extent], dim=1),
        keypoints=(keypoints * visibility[:, None])[None],
        visibility=visibility[None],
        area=torch.tensor([person.area / (height * width)]),
        masks=person.mask.bool(),
    )


def _resize_mask(mask: Tensor, size: Size) -> Tensor:
    """What torch's nearest resize gives, and at least one of the person's pixels.

    Picked by index, which takes half the time.
    """
    rows, columns = map(_nearest, mask.shape[1:], size)
    resized = mask.index_select(2, columns).index_select(1, rows)
    if not resized.any() and mask.any():
        _, y, x = mask.nonzero()[0].tolist()
        height, width = mask.shape[-2:]
        resized[0, y * size[0] // height, x * size[1] // width] = 1
    return resized


def _nearest(old: int, new: int) -> Tensor:
    """Which of `old` pixels in a line the nearest resize takes for each of `new`."""
    places = torch.arange(old, dtype=torch.float32)[None, None]
    return interpolate(places, new, mode="nearest")[0, 0].long()


def _mirror(points: Tensor, width: int) -> Tensor:
    x, y = points.unbind(-1)
    return torch.stack([width - 1 - x, y], dim=-1)
