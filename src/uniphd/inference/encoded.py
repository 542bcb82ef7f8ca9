"""The network at work: an image is encoded once, and asked as often as there are prompts."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, overload

from PIL import Image
from torch import Tensor

from uniphd.data.sample import image_tensor
from uniphd.errors import ConfigError, PromptError
from uniphd.inference.detect import Chosen, scale_to_images, to_cpu
from uniphd.inference.image_input import ImageOptions
from uniphd.inference.prompt_input import (
    PromptInput,
    PromptValues,
    fit_prompt,
    fit_prompts,
    prompt_list,
    single_prompt,
)
from uniphd.inference.result import Instance
from uniphd.keypoints import KeypointSchema
from uniphd.prompts import Prompt, PromptBatch, Tokenize, batch_prompts
from uniphd.structures import Size

if TYPE_CHECKING:
    from typing_extensions import Unpack

_tokenizing = Lock()  # a fast tokenizer of Hugging Face takes one thread at a time


@dataclass(frozen=True, eq=False)
class Engine(ABC):
    """Something that runs a network, and what its inputs are made with.

    It keeps nothing of what it is given.

    Attributes:
        tokenizer: texts -> ids.
        transform: says to which size an image is resized.
        schema: which keypoints there are.
        batch_size: prompts at once, at most.
    """

    tokenizer: Tokenize
    transform: OutputSize
    schema: KeypointSchema
    batch_size: int

    @abstractmethod
    def compute_features(self, image: Tensor) -> Any:
        """What does not depend on the prompt, of an image (3, h, w) uint8."""

    def prompts_at_once(self, features: Any) -> int:
        """How many prompts are computed together; at most `batch_size`.

        Args:
            features: of `compute_features`.
        """
        return self.batch_size

    @abstractmethod
    def compute_people(self, features: Any, size: Size, prompts: PromptBatch, top_k: int) -> People:
        """The best people for every prompt.

        Args:
            features: of `compute_features`.
            size: (h, w) of the image.
            prompts: in its pixels.
            top_k: of them per prompt.
        """

    def encode(self, image: Image.Image, options: ImageOptions) -> EncodedImage:
        """Compute what does not depend on the prompt for an RGB image, however it was read."""
        size = (image.height, image.width)
        new = self.transform.output_size(size)
        resized = image if size == new else image.resize(new[::-1], Image.Resampling.BILINEAR)
        return EncodedImage(self, self.compute_features(image_tensor(resized)), size, new, options)

    def detect(
        self, encoded: EncodedImage, prompts: Sequence[Prompt], fitted: Sequence[Prompt], top_k: int
    ) -> Iterator[Instance]:
        """The best instance for each of at most `batch_size` prompts.

        Args:
            encoded: the image.
            prompts: in its pixels.
            fitted: the same in the pixels that the network saw.
            top_k: candidates per prompt.
        """
        block = batch_prompts(fitted, self._tokenize)
        people = self.compute_people(encoded.features, encoded.network_size, block, top_k)
        detections = to_cpu(scale_to_images(people.chosen, (encoded.size,) * len(prompts)))
        height, width = encoded.network_size
        for prompt, found, masks in zip(prompts, detections, people.mask_logits, strict=True):
            yield Instance(
                detections=found,
                rank=0,
                mask_logits=masks[:, :height, :width].float().cpu().clone(),
                image_size=encoded.size,
                prompt=prompt,
                schema=self.schema,
                image_options=encoded.options,
            )

    def _tokenize(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        with _tokenizing:
            return self.tokenizer(texts)


class People(NamedTuple):
    """What an engine finds.

    Attributes:
        chosen: the best queries of every prompt.
        mask_logits: (B, T, H, W) of them on the padded canvas.
    """

    chosen: Chosen
    mask_logits: Tensor


class OutputSize(Protocol):
    """What decides how large the network sees an image."""

    def output_size(self, size: Size) -> Size:
        """(height, width) of what becomes of an image of `size`."""
        ...


@dataclass(frozen=True, eq=False, repr=False)
class EncodedImage:
    """An image of which everything is computed that does not depend on the prompt.

    Attributes:
        engine: whose network it is for.
        features: what the network made of the image.
        size: (height, width) of the image, in whose pixels prompts and results are.
        network_size: (height, width) that the network saw.
        options: how the image was read.
    """

    engine: Engine
    features: Any
    size: Size
    network_size: Size
    options: ImageOptions

    @overload
    def predict(self, *, prompts: Sequence[PromptInput], top_k: int = 1) -> list[Instance]: ...

    @overload
    def predict(self, *, top_k: int = 1, **prompt: Unpack[PromptValues]) -> Instance: ...

    def predict(
        self,
        *,
        text: str | None = None,
        point: Any = None,
        scribble: Any = None,
        box: Any = None,
        mask: Any = None,
        prompts: Sequence[PromptInput] | None = None,
        top_k: int = 1,
    ) -> Any:
        """Find the person that a prompt refers to; arguments and errors as in `Predictor`."""
        _require_top_k(top_k)
        single = single_prompt(text=text, point=point, scribble=scribble, box=box, mask=mask)
        if (single is None) == (prompts is None):
            raise PromptError(
                "Give one prompt (text=, point=, scribble=, box= or mask=), or several as "
                "prompts=[...], and not both."
            )
        asked = prompt_list(prompts or ()) if single is None else [single]
        fitted = fit_prompts(asked, self.size, self.network_size)
        found: list[Instance] = []
        for part in self._chunks(len(asked)):
            found += self.engine.detect(self, asked[part], fitted[part], top_k)
        return found if single is None else found[0]

    def predict_each(
        self, prompts: Sequence[Prompt], top_k: int = 1
    ) -> Iterator[Instance | PromptError]:
        """What `predict` finds for each prompt or, for one that cannot be asked, why not.

        Args:
            prompts: of any kinds.
            top_k: candidates per prompt.
        """
        _require_top_k(top_k)
        outcomes: list[Instance | PromptError | None] = []
        asked: list[tuple[Prompt, Prompt]] = []
        for prompt in prompts:
            try:
                asked.append((prompt, fit_prompt(prompt, self.size, self.network_size)))
                outcomes.append(None)
            except PromptError as error:
                outcomes.append(error)
        found = self._detect_each(asked, top_k)
        return (next(found) if outcome is None else outcome for outcome in outcomes)

    def _detect_each(
        self, asked: Sequence[tuple[Prompt, Prompt]], top_k: int
    ) -> Iterator[Instance | PromptError]:
        """One outcome for every prompt and what it is for the network."""
        for chunk in self._chunks(len(asked)):
            prompts, fitted = zip(*asked[chunk], strict=True)
            try:
                yield from list(self.engine.detect(self, prompts, fitted, top_k))
            except PromptError as error:  # of the tokenizer, about one of them
                if len(prompts) == 1:
                    yield error
                else:
                    for pair in asked[chunk]:
                        yield from self._detect_each([pair], top_k)

    def _chunks(self, count: int) -> Iterator[slice]:
        """Slices of as many prompts as are computed at once."""
        size = self.engine.prompts_at_once(self.features)
        return (slice(start, start + size) for start in range(0, count, size))

    def __repr__(self) -> str:
        return f"EncodedImage({self.size[1]} x {self.size[0]} pixels)"


def _require_top_k(top_k: int) -> None:
    if type(top_k) is not int or top_k < 1:
        raise ConfigError(f"top_k is {top_k!r:.80}; give an integer of at least 1.")
