"""Grounding: the fusion learns, token by token, which part of the image the prompt means.

The decoder's losses tell a network from scratch whom a sentence means only through one query and
one class logit. A warm-up on this dense loss, before anything behind the fusion is trained, teaches
it directly. Nothing of this is in the official training.

Shapes: B prompts, each with its image, S tokens over the L levels, H x W the padded canvas.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from uniphd.errors import ConfigError
from uniphd.losses.precision import at_least_float32
from uniphd.losses.targets import stack_masks
from uniphd.models.outputs import GroundingPrediction
from uniphd.models.rescoring import log_sum_exp_pooling
from uniphd.structures import Size, Target

_SMOOTH = 1.0  # keeps the dice ratio defined where nobody covers a token, as for masks


@dataclass(frozen=True)
class GroundingLoss:
    """Cross-entropy of grounding logits against the referred person's mask, and two more if wanted.

    A token's target is the share of its cell that the mask covers. Padding is left out. Every
    image and every level counts the same.

    Most tokens are background, which says little about who is meant. The choice does: the people
    of a batch whose prompts share an image are candidates, a candidate's score is that of their
    mask (`log_sum_exp_pooling`), and the loss is the cross-entropy of the referred one. It needs
    batches that hold several people of one image (`data.group_by_image=true`), else it is 0.

    Attributes:
        warmup_steps: optimizer steps at the start of a run in which only this loss is trained.
        weight: of this loss beside all others after the warm-up; 0 leaves it out.
        dice_weight: of the dice loss within this one; 0 leaves it out.
        choice_weight: of the choice within this one; 0 leaves it out.
        levels: feature levels to supervise: 0 is stride 8, 1 is stride 16, and so on.

    Raises:
        ConfigError: a number is negative, there is no level, or warm-up and weight are both 0.
    """

    warmup_steps: int
    weight: float = 0.0
    dice_weight: float = 0.0
    choice_weight: float = 0.0
    levels: Sequence[int] = (0, 1)

    def __post_init__(self) -> None:
        numbers = (
            self.warmup_steps,
            self.weight,
            self.dice_weight,
            self.choice_weight,
            *self.levels,
        )
        if any(number < 0 for number in numbers):
            raise ConfigError(f"{self} has a negative number; use 0 to leave a part out.")
        if not self.levels:
            raise ConfigError("grounding.levels is empty; name at least one level, such as [0, 1].")
        if not (self.warmup_steps or self.weight):
            raise ConfigError(
                "grounding has neither warmup_steps nor a weight; give one, or use grounding=none."
            )

    def warms_up(self, step: int) -> bool:
        """Whether the optimizer step with this number, counted from 0, belongs to the warm-up."""
        return step < self.warmup_steps

    def __call__(
        self,
        prediction: GroundingPrediction,
        targets: Sequence[Target],
        images: Sequence[int],
    ) -> Tensor:
        """The loss of a batch, ().

        Args:
            prediction: the fusion's answer.
            targets: one per prompt, on the prediction's device; several people are taken together.
            images: B times the index of the prompt's image.

        Raises:
            ConfigError: the network has no such level.
        """
        if max(self.levels) >= len(prediction.shapes):
            raise ConfigError(
                f"grounding.levels is {list(self.levels)}, but the network has the levels 0 to "
                f"{len(prediction.shapes) - 1}."
            )
        masks, rows = stack_masks(targets, prediction.canvas).any(1), prediction.rows
        lengths = [height * width for height, width in prediction.shapes]
        logits = at_least_float32(prediction.logits).split(lengths, dim=1)
        valid = (~prediction.padding).to(logits[0].dtype).split(lengths, dim=1)
        shared = self._shared(images, masks.device)
        losses = []
        for level in self.levels:
            covered = coverage(masks, prediction.shapes[level])
            loss = self._token_loss(logits[level], covered[rows], valid[level])
            if shared is not None:
                choice = choice_loss(logits[level], rows, covered, shared)
                loss = loss + self.choice_weight * choice
            losses.append(loss)
        return torch.stack(losses).mean()

    def _shared(self, images: Sequence[int], device: torch.device) -> Tensor | None:
        """(B, B) bool, whether two prompts share their image; None where no choice is made."""
        if not self.choice_weight:
            return None
        image = torch.tensor(images).to(device, non_blocking=True)
        return image.unsqueeze(1) == image

    def _token_loss(self, logits: Tensor, target: Tensor, valid: Tensor) -> Tensor:
        """Loss of one level: logits, target and valid (1 or 0) are (rows, s)."""
        entropy = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
        loss = (entropy * valid).sum(1) / valid.sum(1).clamp(min=1)
        if self.dice_weight:
            probability = logits.sigmoid() * valid
            overlap = (probability * target).sum(1)
            total = (probability + target * valid).sum(1)
            loss = loss + self.dice_weight * (1 - (2 * overlap + _SMOOTH) / (total + _SMOOTH))
        return loss.mean()


def choice_loss(logits: Tensor, rows: Tensor, covered: Tensor, shared: Tensor) -> Tensor:
    """Cross-entropy of the referred person among the people of the same image, ().

    Two prompts about one person are no candidates for each other.

    Args:
        logits: (R, s) of a level.
        rows: (R,) the prompt whose person the logits are about.
        covered: (B, s) share of every cell that a prompt's person covers.
        shared: (B, B) bool, whether two prompts share their image.
    """
    scores = log_sum_exp_pooling(logits, covered)
    same_person = (covered.unsqueeze(1) == covered).all(-1)
    same_person.fill_diagonal_(False)
    candidates = shared & ~same_person
    return F.cross_entropy(scores.masked_fill(~candidates[rows], -torch.inf), rows)


def coverage(masks: Tensor, shape: Size) -> Tensor:
    """Share of every cell of a level that a mask covers.

    Args:
        masks: (B, H, W) bool.
        shape: (h, w) of the level.

    Returns:
        (B, h * w) float32 in [0, 1].
    """
    return F.adaptive_avg_pool2d(masks.unsqueeze(1).float(), shape).flatten(1)
