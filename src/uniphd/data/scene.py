"""A photograph and the person annotated in it, and the geometry that moves both together.

torchvision's v2 functions do the work on its `tv_tensors`, with two exceptions. Points are mirrored
and shifted here: torchvision releases differ in whether a keypoint's mirror image is at w - x or
w - 1 - x and in whether a crop clamps it. Sizes follow DETR, which truncates the longer side.

Coordinates are pixels (x, y) of `Scene.image`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from PIL import Image
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as F

from uniphd.data.annotations import ReferredPerson
from uniphd.keypoints import FLIP_ORDER
from uniphd.structures import Size, Target

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Scene:
    """A photograph with everything that is annotated for one person in it.

    Attributes:
        image: RGB.
        caption: the person in words.
        other_captions: other words for the same person.
        box: (1, 4) x1, y1, x2, y2, inside the picture.
        keypoints: (17, 2) x, y.
        visibility: (17,) bool, True where the keypoint is labelled, hidden or not.
        scribbles: (S, P, 2) x, y.
        mask: (1, h, w) uint8, 1 on the person.
        area: of the mask in square pixels.
    """

    image: Image.Image
    caption: str
    other_captions: tuple[str, ...]
    box: tv_tensors.BoundingBoxes
    keypoints: tv_tensors.KeyPoints
    visibility: Tensor
    scribbles: tv_tensors.KeyPoints
    mask: tv_tensors.Mask
    area: float

    @property
    def size(self) -> Size:
        """(height, width) of the picture."""
        return self.image.height, self.image.width

    @property
    def shows_person(self) -> bool:
        """Whether a pixel of the mask, a box with an area and a labelled keypoint are left."""
        extent = self.box[0, 2:] - self.box[0, :2]
        return bool((extent > 0).all() and self.visibility.any() and self.mask.any())


def make_scene(image: Image.Image, person: ReferredPerson) -> Scene:
    """Put a photograph and its record together; the box is clipped to the picture."""
    x, y, width, height = person.bbox
    corners = torch.tensor([[x, y, x + width, y + height]])
    limits = torch.tensor([person.width, person.height] * 2)
    keypoints = torch.from_numpy(person.keypoints)
    scribbles = torch.from_numpy(person.scribbles).float()
    return Scene(
        image=image,
        caption=person.caption,
        other_captions=person.other_captions,
        box=_boxes(torch.minimum(corners, limits).clamp(min=0), person.size),
        keypoints=_points(keypoints[:, :2], person.size),
        visibility=keypoints[:, 2] > 0,
        scribbles=_points(scribbles, person.size),
        mask=tv_tensors.Mask(torch.from_numpy(person.mask())[None]),
        area=person.area,
    )


def flip(scene: Scene) -> Scene:
    """Mirror left and right; points go to w - 1 - x, boxes to w - x, keypoints swap sides.

    The caption is left alone, see `uniphd.data.transforms.mirror_caption`.
    """
    order = list(FLIP_ORDER)
    return replace(
        scene,
        image=F.horizontal_flip(scene.image),
        box=F.horizontal_flip(scene.box),
        keypoints=_mirror(scene.keypoints[order], scene.size),
        visibility=scene.visibility[order],
        scribbles=_mirror(scene.scribbles, scene.size),
        mask=F.horizontal_flip(scene.mask),
    )


def resize(scene: Scene, size: Size) -> Scene:
    """Resize to (height, width): Pillow's bilinear for the picture, nearest for the mask.

    A mask too thin for the new size keeps one pixel.
    """
    if size == scene.size:
        return scene
    to = list(size)
    ratio = size[0] / scene.size[0] * size[1] / scene.size[1]
    return replace(
        scene,
        image=F.resize(scene.image, to, InterpolationMode.BILINEAR),
        box=F.resize(scene.box, to),
        keypoints=F.resize(scene.keypoints, to),
        scribbles=F.resize(scene.scribbles, to),
        mask=_resize_mask(scene.mask, size),
        area=scene.area * ratio,
    )


def crop(scene: Scene, top: int, left: int, size: Size) -> Scene:
    """Cut out a window; see `Scene.shows_person` for whether the person is still in it.

    The box is clipped and the area counted anew in the cropped mask (DETR takes the clipped box's,
    which is about twice as large and would widen the OKS). Keypoints outside of the window lose
    their visibility (the official release keeps them, clamped to the border). Scribbles are only
    shifted.
    """
    height, width = size
    keypoints = _shift(scene.keypoints, top, left, size)
    inside = ((keypoints >= 0) & (keypoints < torch.tensor([width, height]))).all(-1)
    mask = F.crop(scene.mask, top, left, height, width)
    return replace(
        scene,
        image=F.crop(scene.image, top, left, height, width),
        box=F.crop(scene.box, top, left, height, width),
        keypoints=keypoints,
        visibility=scene.visibility & inside.as_subclass(Tensor),
        scribbles=_shift(scene.scribbles, top, left, size),
        mask=mask,
        area=float(mask.count_nonzero()),
    )


def resized_size(size: Size, shorter_side: int, max_size: int | None = None) -> Size:
    """DETR's size for a picture: shorter side as asked unless the longer one exceeds `max_size`.

    Args:
        size: (height, width) of the picture.
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
    """(3, h, w) float: scaled to [0, 1] and normalised with ImageNet's mean and deviation."""
    pixels = F.pil_to_tensor(image).contiguous()
    scaled = F.to_dtype(pixels, torch.float32, scale=True)
    normalised: Tensor = F.normalize(scaled, list(IMAGENET_MEAN), list(IMAGENET_STD), inplace=True)
    return normalised


def make_target(scene: Scene) -> Target:
    """The training target: coordinates divided by (w, h), the area by w * h."""
    height, width = scene.size
    extent = torch.tensor([width, height], dtype=torch.float32)
    first, last = scene.box.as_subclass(Tensor).float().split(2, dim=1)
    keypoints = scene.keypoints.as_subclass(Tensor).float() / extent
    visibility = scene.visibility.float()
    return Target(
        labels=torch.ones(1, dtype=torch.int64),
        boxes=torch.cat([(first + last) / 2 / extent, (last - first) / extent], dim=1),
        keypoints=(keypoints * visibility[:, None])[None],
        visibility=visibility[None],
        area=torch.tensor([scene.area / (height * width)]),
        masks=scene.mask.as_subclass(Tensor).bool(),
    )


def _boxes(corners: Tensor, size: Size) -> tv_tensors.BoundingBoxes:
    return tv_tensors.BoundingBoxes(
        corners, format=tv_tensors.BoundingBoxFormat.XYXY, canvas_size=size
    )


def _points(points: Tensor, size: Size) -> tv_tensors.KeyPoints:
    return tv_tensors.KeyPoints(points, canvas_size=size)


def _resize_mask(mask: tv_tensors.Mask, size: Size) -> tv_tensors.Mask:
    """(1, h, w) at another size: the nearest pixels, and at least one of the person's."""
    resized: tv_tensors.Mask = F.resize(mask, list(size))
    if not resized.any() and mask.any():
        _, y, x = mask.nonzero()[0].tolist()
        height, width = mask.shape[-2:]
        resized[0, y * size[0] // height, x * size[1] // width] = 1
    return resized


def _mirror(points: Tensor, size: Size) -> tv_tensors.KeyPoints:
    x, y = points.as_subclass(Tensor).unbind(-1)
    return _points(torch.stack([size[1] - 1 - x, y], dim=-1), size)


def _shift(points: Tensor, top: int, left: int, size: Size) -> tv_tensors.KeyPoints:
    return _points(points.as_subclass(Tensor) - torch.tensor([left, top]), size)
