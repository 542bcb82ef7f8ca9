"""Grounding: the fusion learns, token by token, which part of the image the prompt refers to.

In a training from scratch, the decoder's losses say whom a text refers to only through one query
and one class logit. A warm-up on this dense loss, before anything behind the fusion is trained,
teaches it directly. Nothing of this is in the official training.

Shapes: B prompts, each with its image, S tokens over the L levels, H x W the padded canvas.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

from uniphd.errors import ConfigError
from uniphd.losses.auxiliary.base import AuxiliaryInputs, AuxiliaryLoss
from uniphd.losses.masks import smooth_dice_loss
from uniphd.losses.precision import at_least_float32
from uniphd.models.rescoring import log_sum_exp_pooling, require_grounding
from uniphd.structures import Size

if TYPE_CHECKING:
    from uniphd.models.uniphd import UniPHD


@dataclass(frozen=True)
class GroundingLoss(AuxiliaryLoss):
    """Cross-entropy of grounding logits against the referred person's mask, and two more if wanted.

    A token's target is the share of its cell that the mask covers. Padding is left out. Every
    image and every level counts the same.

    Most tokens are background, which says little about who is referred to. The contrastive loss
    over the people of an image does: the people of a batch whose prompts share an image are
    candidates, a candidate's score is its mask's (`log_sum_exp_pooling`), and the loss is the
    cross-entropy of the referred one. A person with two prompts is a candidate once. It needs
    batches that hold several people of one image (`data.group_by_image=true`), else it is 0.

    Attributes:
        dice_weight: of the dice loss within this one; 0 leaves it out.
        contrastive_weight: of the contrastive loss within this one; 0 leaves it out.
        levels: feature levels to supervise: 0 is stride 8, 1 is stride 16, and so on.

    Raises:
        ConfigError: a number is negative, or there is no level.
    """

    dice_weight: float = 0.0
    contrastive_weight: float = 0.0
    levels: Sequence[int] = (0, 1)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.levels:
            raise ConfigError(
                "loss.auxiliary.grounding.levels is empty; name at least one level, such as [0, 1]."
            )

    def check(self, model: UniPHD) -> None:
        """Raise ConfigError where the fusion gives no grounding logits, or has no such level."""
        require_grounding("loss.auxiliary.grounding", self.levels, model.fusion, model.neck)

    def __call__(self, inputs: AuxiliaryInputs) -> Tensor:
        """The unweighted loss of a batch, (); several people of a target are taken together."""
        prediction = inputs.tokens.grounding
        assert prediction is not None  # `check` refuses fusions without
        masks, rows = inputs.masks.any(1), prediction.rows
        lengths = [height * width for height, width in prediction.shapes]
        logits = at_least_float32(prediction.logits).split(lengths, dim=1)
        valid = (~prediction.padding).to(logits[0].dtype).split(lengths, dim=1)
        candidates = self._candidates(inputs)
        losses = []
        for level in self.levels:
            occupied = occupancy(masks, prediction.shapes[level])
            loss = self._token_loss(logits[level], occupied[rows], valid[level])
            if candidates is not None:
                contrast = contrastive_loss(logits[level], rows, occupied, candidates)
                loss = loss + self.contrastive_weight * contrast
            losses.append(loss)
        return torch.stack(losses).mean()

    def _candidates(self, inputs: AuxiliaryInputs) -> Tensor | None:
        """(B, B) bool: each prompt, and those about others of its image; None without such loss."""
        if not self.contrastive_weight or inputs.image_index is None:
            return None
        prompts = range(len(inputs.image_index))
        index = torch.tensor([inputs.image_index, inputs.person_ids or prompts, prompts])
        index = index.to(inputs.masks.device, non_blocking=True)
        image, person, itself = (index.unsqueeze(1) == index.unsqueeze(2)).unbind()
        return image & (~person | itself)

    def _token_loss(self, logits: Tensor, target: Tensor, valid: Tensor) -> Tensor:
        """Loss of one level: logits, target and valid (1 or 0) are (rows, s)."""
        entropy = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
        loss = (entropy * valid).sum(1) / valid.sum(1).clamp(min=1)
        if self.dice_weight:
            probability = logits.sigmoid() * valid
            overlap = (probability * target).sum(1)
            total = (probability + target * valid).sum(1)
            loss = loss + self.dice_weight * smooth_dice_loss(overlap, total)
        return loss.mean()


def contrastive_loss(logits: Tensor, rows: Tensor, occupied: Tensor, candidates: Tensor) -> Tensor:
    """Cross-entropy of the referred person among the people of the same image, ().

    Args:
        logits: (R, s) of a level.
        rows: (R,) the prompt whose person the logits are about.
        occupied: (B, s) share of every cell that a prompt's person covers.
        candidates: (B, B) bool, which prompts' people a prompt's is told apart from, and itself.
    """
    scores = log_sum_exp_pooling(logits, occupied)
    return F.cross_entropy(scores.masked_fill(~candidates[rows], -torch.inf), rows)


def occupancy(masks: Tensor, shape: Size) -> Tensor:
    """Share of every cell of a level that a mask covers.

    Args:
        masks: (B, H, W) bool.
        shape: (h, w) of the level.

    Returns:
        (B, h * w) float32 in [0, 1].
    """
    return F.adaptive_avg_pool2d(masks.unsqueeze(1).float(), shape).flatten(1)
