"""Text prompts: a caption that describes exactly one person of the image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Any, ClassVar

from PIL import Image
from torch import Tensor

from uniphd.errors import PromptError
from uniphd.prompts.base import Block, Prompt, Tokenize
from uniphd.prompts.sides import mirror_caption
from uniphd.structures import Size

if TYPE_CHECKING:
    from uniphd.data.sample import AnnotatedPerson


@dataclass(frozen=True)
class TextPrompt(Prompt):
    """A caption of one person; `text` has at least one word."""

    kind: ClassVar[str] = "text"
    reads_scribbles: ClassVar[bool] = False
    reads_captions: ClassVar[bool] = True
    text: str

    def require_sound(self) -> None:
        """Refuse a text without words or of half characters."""
        if not isinstance(self.text, str):
            raise PromptError(f"A text prompt is a {type(self.text).__name__}; give a caption.")
        if not self.text.strip():
            raise PromptError("A text prompt is empty; describe the person in a few words.")
        try:
            self.text.encode()
        except UnicodeEncodeError as error:
            raise PromptError(
                f"A text prompt has half of a character: {self.text!r:.80}; write it anew."
            ) from error

    def require_inside(self, size: Size) -> None:
        """A text has no place."""

    def resized(self, size: Size, new: Size) -> TextPrompt:
        """The same."""
        return self

    def mirrored(self, width: int) -> TextPrompt:
        """Its sides exchanged; see `uniphd.prompts.sides`."""
        return TextPrompt(mirror_caption(self.text))

    @classmethod
    def sample(cls, person: AnnotatedPerson, random: Random) -> TextPrompt:
        """Any of the person's captions."""
        return cls(random.choice(person.captions))

    @classmethod
    def fixed(cls, person: AnnotatedPerson) -> TextPrompt:
        """The first caption."""
        return cls(person.caption)

    @classmethod
    def collate(cls, prompts: Sequence[TextPrompt], tokenize: Tokenize) -> TextBlock:
        """Tokenize the texts."""
        return TextBlock(*tokenize([prompt.text for prompt in prompts]))

    def render(self, image: Image.Image) -> Image.Image:
        """The image alone: a text has no place in it."""
        return image.convert("RGB")

    def describe(self) -> str:
        """The text in quotes."""
        return f"“{self.text}”"

    def to_json(self) -> dict[str, Any]:
        """{"text": ...}."""
        return {"text": self.text}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> TextPrompt:
        """See the base."""
        return cls(value["text"])


@dataclass(frozen=True)
class TextBlock(Block):
    """Texts for the language model.

    Attributes:
        input_ids: (N, T) int64.
        attention_mask: (N, T) int64, 1 on tokens and 0 on padding.
    """

    input_ids: Tensor
    attention_mask: Tensor
