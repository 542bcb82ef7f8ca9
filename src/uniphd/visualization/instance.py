"""One person drawn over the image: mask, prompt and skeleton, with words below."""

from __future__ import annotations

from PIL import Image

from uniphd.prompts import Prompt
from uniphd.visualization.overlay import render_mask
from uniphd.visualization.panels import PAPER, Body, caption_panel
from uniphd.visualization.skeleton import render_skeleton

_MARGIN = 10  # pixels beside the words


def render_instance(image: Image.Image, body: Body, prompt: Prompt) -> Image.Image:
    """RGB copy of `image` with a person's mask, the prompt and the skeleton on it.

    Args:
        image: the image.
        body: in the image's pixels.
        prompt: in the image's pixels.
    """
    masked = render_mask(image, body.mask)
    return render_skeleton(prompt.render(masked), body.keypoints, body.visible, body.schema)


def with_caption(rendered: Image.Image, text: str, note: str) -> Image.Image:
    """The image with `text` and, fainter, `note` below it."""
    words = caption_panel(text, note, max(1, rendered.width - 2 * _MARGIN))
    height = rendered.height + words.height + _MARGIN // 2
    page = Image.new("RGB", (rendered.width, height), PAPER)
    page.paste(rendered, (0, 0))
    page.paste(words, (_MARGIN, rendered.height))
    return page
