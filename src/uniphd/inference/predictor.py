"""An image and a prompt in, the referred person out: `Predictor`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, overload

import torch

from uniphd.checkpoints.reading import load_model_and_config
from uniphd.data.transforms import EvaluationTransform
from uniphd.errors import ConfigError
from uniphd.inference.devices import find_device
from uniphd.inference.encoded import EncodedImage, Engine
from uniphd.inference.export.layout import ExportFiles, find_export
from uniphd.inference.image_input import ImageInput, ImageOptions, read_image_input
from uniphd.inference.network import NetworkEngine
from uniphd.inference.prompt_input import PromptInput, PromptValues
from uniphd.inference.result import Instance
from uniphd.inference.texts import CarefulTokenizer
from uniphd.keypoints import KeypointSchema
from uniphd.models.build import build_tokenizer
from uniphd.models.compilation import compile_parts
from uniphd.models.text_encoder import check_texts
from uniphd.ops.backend import resolve_backend

if TYPE_CHECKING:
    from typing_extensions import Unpack

ImageList: TypeAlias = list[ImageInput] | tuple[ImageInput, ...]

_MOST_AT_ONCE = 16  # prompts
_TOKEN_BYTES = 2**24  # of a chunk on the CPU; glibc maps what has 2**25 anew at every use
_PRECISIONS = {"bf16": torch.bfloat16, "fp16": torch.float16}


class Predictor:
    """A trained network, to be asked about images.

    A predictor keeps nothing of what it is asked, so any number of threads may share one.

    Args:
        model: a model folder (`uniphd-convert`), a checkpoint of `uniphd-train`, an address on the
            Hugging Face Hub (`hf://owner/name@revision`), what `uniphd-export` wrote (its folder or
            a file in it), or the name of a packaged model: `synthetic_cpu`, which is trained on
            synthetic people and is for trying things out.
        device: "auto" (the first GPU, or the CPU), "cpu", "cuda", "cuda:1", ...
        precision: None for 32-bit numbers, "bf16" or "fp16" for automatic mixed precision.
        compile: use `torch.compile`; the first calls then take minutes.
        batch_size: prompts that are computed at once; memory grows with it. None for what is
            fastest: 16 on a GPU; on the CPU fewer, so that large temporaries need not be asked of
            the system anew for every layer.

    Attributes:
        device: of the network.
        schema: which keypoints it predicts.

    Raises:
        CheckpointError: the checkpoint is missing, unsafe, or does not fit.
        ConfigError: there is no such device or precision.
    """

    schema: KeypointSchema
    device: torch.device
    _engine: Engine

    def __init__(
        self,
        model: str | Path = "synthetic_cpu",
        device: str | torch.device = "auto",
        precision: str | None = None,
        compile: bool = False,
        batch_size: int | None = None,
    ) -> None:
        if precision is not None and precision not in _PRECISIONS:
            raise ConfigError(
                f"precision is {precision!r:.80}; give None, {' or '.join(_PRECISIONS)}."
            )
        if batch_size is not None and (type(batch_size) is not int or batch_size < 1):
            raise ConfigError(f"batch_size is {batch_size!r:.80}; give an integer of at least 1.")
        if (files := find_export(model)) is not None:
            self._open_export(files, device, batch_size, precision is not None or compile)
            return
        self.device = find_device(device)
        network, config = load_model_and_config(model)
        network.to(self.device)
        if compile:
            compile_parts(network)
        resolve_backend(self.device.type, required=False)
        self.schema = network.schema
        tokenize = build_tokenizer(config.tokenizer)
        self._engine = NetworkEngine(
            network=network,
            schema=network.schema,
            tokenizer=CarefulTokenizer(
                tokenize, partial(check_texts, network.prompt_encoder.text_encoder, tokenize)
            ),
            transform=EvaluationTransform(**config.preprocessing),
            device=self.device,
            dtype=None if precision is None else _PRECISIONS[precision],
            batch_size=batch_size or _MOST_AT_ONCE,
            token_bytes=_TOKEN_BYTES if batch_size is None and self.device.type == "cpu" else None,
        )

    def _open_export(
        self, files: ExportFiles, device: torch.device | str, batch_size: int | None, changed: bool
    ) -> None:
        """Run what `uniphd-export` wrote."""
        if changed:
            raise ConfigError(
                f"{files.folder} has exported graphs, which are computed as they are; leave "
                "precision and compile out."
            )
        from uniphd.inference.export.files import open_engine

        self._engine, self.device = open_engine(files, device, batch_size)
        self.schema = self._engine.schema

    def encode(self, image: ImageInput, *, color: str = "rgb", exif: bool = True) -> EncodedImage:
        """Compute once what does not depend on the prompt; ask the result as often as needed.

        Args:
            image: a file's path or content, a PIL image, a uint8 array (h, w, 3) or tensor
                (3, h, w).
            color: order of an array's or tensor's channels, "rgb" or "bgr".
            exif: turn the image as its EXIF orientation says.

        Raises:
            ImageError: the image cannot be read.
        """
        options = ImageOptions(color, exif)
        return self._engine.encode(read_image_input(image, options), options)

    @overload
    def predict(
        self,
        image: ImageInput,
        *,
        prompts: Sequence[PromptInput],
        top_k: int = 1,
        color: str = "rgb",
        exif: bool = True,
    ) -> list[Instance]: ...

    @overload
    def predict(
        self,
        image: ImageInput,
        *,
        top_k: int = 1,
        color: str = "rgb",
        exif: bool = True,
        **prompt: Unpack[PromptValues],
    ) -> Instance: ...

    @overload
    def predict(
        self,
        image: ImageList,
        *,
        prompts: Sequence[PromptInput],
        top_k: int = 1,
        color: str = "rgb",
        exif: bool = True,
    ) -> list[list[Instance]]: ...

    @overload
    def predict(
        self,
        image: ImageList,
        *,
        top_k: int = 1,
        color: str = "rgb",
        exif: bool = True,
        **prompt: Unpack[PromptValues],
    ) -> list[Instance]: ...

    def predict(
        self,
        image: ImageInput | ImageList,
        *,
        text: str | None = None,
        point: Any = None,
        scribble: Any = None,
        box: Any = None,
        mask: Any = None,
        prompts: Sequence[PromptInput] | None = None,
        top_k: int = 1,
        color: str = "rgb",
        exif: bool = True,
    ) -> Any:
        """Find the person that a prompt refers to.

        Coordinates are pixels of the image as given. Give one prompt by its keyword, or several of
        any kinds as `prompts`.

        Args:
            image: see `encode`; or a list of images, each of which is asked the same.
            text: words that describe the person.
            point: (x, y) on the person.
            scribble: points (x, y) along a stroke over the person.
            box: (x1, y1, x2, y2) around the person.
            mask: (h, w) of the image's size, 0 beside the person: array, tensor or PIL image.
            prompts: several prompts, or what their `to_json` gives.
            top_k: candidates per prompt, see `Instance.candidates`.
            color: see `encode`.
            exif: see `encode`.

        Returns:
            The best `Instance`, or for `prompts` a list with one for each; for a list of images, a
            list of either.

        Raises:
            ImageError: an image cannot be read.
            PromptError: there is no prompt, or one that says nothing or is outside of the image.
        """
        asked: dict[str, Any] = {
            **{"text": text, "point": point, "scribble": scribble, "box": box, "mask": mask},
            **{"prompts": prompts, "top_k": top_k},
        }
        if isinstance(image, list | tuple):
            return [self.encode(one, color=color, exif=exif).predict(**asked) for one in image]
        return self.encode(image, color=color, exif=exif).predict(**asked)

    def stream(self, images: Iterable[ImageInput], **options: Any) -> Iterator[Any]:
        """What `predict` returns for one image after the other, such as the frames of a video.

        The next image is taken from `images` when its result is asked for, and none is kept.

        Args:
            images: any number of images.
            options: of `predict`.
        """
        for image in images:
            yield self.predict(image, **options)
