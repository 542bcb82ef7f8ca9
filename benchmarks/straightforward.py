"""RefHuman's training data in the most direct way: what the package's own is held against.

One step after another, as in the official release: pycocotools draws the mask of the annotation
file, torchvision's v2 functions move the image, the box and the mask, the image becomes
normalised numbers, and a batch is a zero canvas into which they are copied. The order of the draws
is the package's, from the same random numbers, so samples can be compared one by one; captions and
prompts are the package's too.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import torch
from PIL import Image
from pycocotools import mask as coco_mask
from torch import Tensor
from torch.utils.data import Dataset
from torchvision import tv_tensors
from torchvision.ops import box_convert
from torchvision.transforms.v2 import functional as F

from uniphd.data.datamodule import RefHumanDataModule
from uniphd.data.dataset import SampleKey
from uniphd.data.sample import AnnotatedPerson, resized_size
from uniphd.data.transforms import TrainingTransform, mirror_caption
from uniphd.keypoints import COCO17
from uniphd.prompts import Prompt, PromptBatch, Tokenize, batch_prompts
from uniphd.structures import Size

Parts = dict[str, Any]
"""The image and the fields of an `AnnotatedPerson`, with torchvision's types."""


@dataclass(frozen=True)
class PlainSample:
    """One person: a normalised image (3, h, w), its prompt and its target."""

    image: Tensor
    prompt: Prompt
    target: dict[str, Tensor]


@dataclass(frozen=True)
class PlainBatch:
    """A normalised canvas (B, 3, H, W), its padding (B, H, W), the prompts and the targets."""

    images: Tensor
    padding_mask: Tensor
    prompts: PromptBatch
    targets: list[dict[str, Tensor]]


class PlainPeople(Dataset[PlainSample]):
    """The people that a data module trains on.

    Args:
        data: after its `setup`; says where the files are and how to augment.
    """

    def __init__(self, data: RefHumanDataModule) -> None:
        content = json.loads((data.root / data.train_file).read_text())
        images = {image["id"]: image for image in content["images"]}
        annotations = {entry["image_id"]: entry for entry in content["annotations"]}
        ids = [person.image_id for person in data.train_instances]
        self.entries = [(images[number], annotations[number]) for number in ids]
        self.folder = data.image_folder
        self.transform = data.train_transform
        self.prompt = data.prompt_sampler
        self.seed = data.seed

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, draw: SampleKey) -> PlainSample:
        """Read, augment and normalise."""
        epoch, index = draw
        parts = read(*self.entries[index], self.folder)
        parts = augment(parts, self.transform, Random(f"transform/{self.seed}/{epoch}/{index}"))
        pixels = F.to_dtype(F.pil_to_tensor(parts.pop("image")), torch.float32, scale=True)
        person = AnnotatedPerson(**{name: plain(part) for name, part in parts.items()})
        return PlainSample(
            image=F.normalize(pixels, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
            prompt=self.prompt(person, Random(f"prompt/{self.seed}/{epoch}/{index}")),
            target=target(person),
        )


def plain(part: Any) -> Any:
    """The same without torchvision's type."""
    return part.as_subclass(Tensor) if isinstance(part, Tensor) else part


def read(image: Parts, annotation: Parts, folder: Path) -> Parts:
    """The image and the annotation of a person."""
    size = height, width = image["height"], image["width"]
    x, y, w, h = annotation["bbox"]
    box = tv_tensors.BoundingBoxes([[x, y, x + w, y + h]], format="XYXY", canvas_size=size)
    points = torch.tensor(annotation["keypoints"], dtype=torch.float32).view(17, 3)
    runs = segmentation = annotation["segmentation"]
    if isinstance(segmentation, list):
        runs = coco_mask.merge(coco_mask.frPyObjects(segmentation, height, width))
    elif isinstance(segmentation["counts"], list):
        runs = coco_mask.frPyObjects(segmentation, height, width)
    caption = image["caption"]
    return {
        "image": Image.open(folder / image["file_name"]).convert("RGB"),
        "caption": caption,
        "other_captions": tuple(text for text in image.get("captions", []) if text != caption),
        "box": F.clamp_bounding_boxes(box),
        "keypoints": points[:, :2],
        "visibility": points[:, 2] > 0,
        "scribbles": torch.tensor(annotation["scribble"], dtype=torch.float32).view(5, 12, 2),
        "mask": tv_tensors.Mask(torch.from_numpy(coco_mask.decode(runs)).unsqueeze(0)),
        "area": float(annotation["area"]),
    }


def augment(parts: Parts, how: TrainingTransform, random: Random) -> Parts:
    """Mirror, crop and resize."""
    if random.random() < how.flip_probability:
        parts = flip(parts)
    if random.random() < how.crop_probability:
        parts = crop_somewhere(parts, how, random)
    return resize(parts, resized_size(size_of(parts), random.choice(how.scales), how.max_size))


def size_of(parts: Parts) -> Size:
    """(height, width) of the image."""
    return parts["image"].height, parts["image"].width


def flip(parts: Parts) -> Parts:
    """Mirror left and right."""
    width = parts["image"].width
    keypoints, scribbles = parts["keypoints"].clone(), parts["scribbles"].clone()
    keypoints[..., 0] = width - 1 - keypoints[..., 0]
    scribbles[..., 0] = width - 1 - scribbles[..., 0]
    moved = {name: F.horizontal_flip(parts[name]) for name in ("image", "box", "mask")}
    return {
        **parts,
        **moved,
        "caption": mirror_caption(parts["caption"]),
        "other_captions": tuple(mirror_caption(text) for text in parts["other_captions"]),
        "keypoints": keypoints[list(COCO17.flip_order)],
        "visibility": parts["visibility"][list(COCO17.flip_order)],
        "scribbles": scribbles,
    }


def resize(parts: Parts, size: Size) -> Parts:
    """Resize to (height, width)."""
    old_height, old_width = size_of(parts)
    height, width = size
    moved = {name: F.resize(parts[name], list(size)) for name in ("image", "box", "mask")}
    scale = torch.tensor([width / old_width, height / old_height])
    return {
        **parts,
        **moved,
        "keypoints": parts["keypoints"] * scale,
        "scribbles": parts["scribbles"] * scale,
        "area": parts["area"] * (height / old_height * width / old_width),
    }


def crop_somewhere(parts: Parts, how: TrainingTransform, random: Random) -> Parts:
    """Resize and cut out a window with the person; the parts themselves after ten failures."""
    scaled = resize(parts, resized_size(size_of(parts), random.choice(how.crop_scales)))
    available_height, available_width = size_of(scaled)
    smallest, largest = how.crop_size
    for _ in range(10):
        width = random.randint(min(smallest, available_width), min(largest, available_width))
        height = random.randint(min(smallest, available_height), min(largest, available_height))
        top = random.randint(0, available_height - height)
        left = random.randint(0, available_width - width)
        window = crop(scaled, top, left, height, width)
        x1, y1, x2, y2 = window["box"][0].tolist()
        if x1 < x2 and y1 < y2 and window["visibility"].any() and window["mask"].any():
            return window
    return parts


def crop(parts: Parts, top: int, left: int, height: int, width: int) -> Parts:
    """Cut out a window."""
    names = ("image", "box", "mask")
    moved = {name: F.crop(parts[name], top, left, height, width) for name in names}
    keypoints = parts["keypoints"] - torch.tensor([left, top])
    x, y = keypoints.unbind(-1)
    return {
        **parts,
        **moved,
        "keypoints": keypoints,
        "visibility": parts["visibility"] & (x >= 0) & (x < width) & (y >= 0) & (y < height),
        "scribbles": parts["scribbles"] - torch.tensor([left, top]),
        "area": float(moved["mask"].sum()),
    }


def target(person: AnnotatedPerson) -> dict[str, Tensor]:
    """The fields of a `uniphd.structures.Target`."""
    height, width = person.size
    boxes = box_convert(person.box, "xyxy", "cxcywh") / torch.tensor([width, height, width, height])
    keypoints = person.keypoints / torch.tensor([width, height])
    keypoints[~person.visibility] = 0
    return {
        "labels": torch.tensor([1]),
        "boxes": boxes,
        "keypoints": keypoints.unsqueeze(0),
        "visibility": person.visibility.float().unsqueeze(0),
        "area": torch.tensor([person.area / (width * height)]),
        "masks": person.mask.bool(),
    }


class PlainCollate:
    """Put images top left into a zero canvas.

    Args:
        tokenize: turns captions into token ids.
    """

    def __init__(self, tokenize: Tokenize) -> None:
        self.tokenize = tokenize

    def __call__(self, samples: Sequence[PlainSample]) -> PlainBatch:
        """Batch samples; the canvas is as high and wide as the largest, rounded up to 16."""
        height = -(-max(sample.image.shape[1] for sample in samples) // 16) * 16
        width = -(-max(sample.image.shape[2] for sample in samples) // 16) * 16
        images = torch.zeros(len(samples), 3, height, width)
        padding_mask = torch.ones(len(samples), height, width, dtype=torch.bool)
        for sample, canvas, padding in zip(samples, images, padding_mask, strict=True):
            _, h, w = sample.image.shape
            canvas[:, :h, :w] = sample.image
            padding[:h, :w] = False
        prompts = batch_prompts([sample.prompt for sample in samples], self.tokenize)
        return PlainBatch(images, padding_mask, prompts, [sample.target for sample in samples])
