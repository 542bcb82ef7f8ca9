"""GroupPose's decoder (arXiv 2308.07313) over UniPHD's query groups: the paper's Uni-GroupPose.

References, refinement, heads and the prompt in the instance slot are UniPHD's; only the layers are
not.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from torch import Tensor

from uniphd.models.decoder import DecoderLayer, PoseDecoder
from uniphd.structures import Size


class GroupPoseLayer(DecoderLayer):
    """Attention within groups, across groups, then to the image, and one feed-forward block.

    Where UniPHD's layer ends with a group's slots telling each other what they saw, this one starts
    with it. `within_attention` is "plain" in GroupPose; arguments and errors as for `DecoderLayer`.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        del self.within_feedforward

    def forward(
        self,
        groups: Tensor,
        positions: Tensor,
        reference: Tensor,
        memory: Tensor,
        shapes: Sequence[Size],
        padding: Tensor,
    ) -> Tensor:
        """Update the query groups; see `DecoderLayer.forward`."""
        groups = self._across(self._within(groups, positions))
        return self._look_up(groups, positions, reference, memory, shapes, padding)


class GroupPoseDecoder(PoseDecoder):
    """A stack of GroupPose's layers; arguments as for `PoseDecoder`."""

    layer_type: ClassVar[type[DecoderLayer]] = GroupPoseLayer
