"""UniPHD: one referred person's pose and mask from an image and a prompt.

"Referring Human Pose and Mask Estimation in the Wild" (NeurIPS 2024), figure 3, top to bottom.

Shapes: P images, B prompts, H x W the padded canvas, C channels, S tokens over the L levels, Q
queries.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from uniphd.errors import ConfigError, PromptError
from uniphd.keypoints import COCO17, keypoint_schema
from uniphd.models.backbone import Backbone
from uniphd.models.channel_mapper import ChannelMapper
from uniphd.models.decoder import PoseDecoder
from uniphd.models.encoder import DeformableEncoder
from uniphd.models.fusion import NoFusion, ProductFusion, PromptFusion
from uniphd.models.heads import PredictionHeads
from uniphd.models.layers import select_rows
from uniphd.models.levels import flatten_levels, resize_padding, unflatten_levels, valid_ratio
from uniphd.models.mask_head import MaskHead, sum_levels
from uniphd.models.outputs import (
    EncodedImages,
    FusedFeatures,
    GroundingPrediction,
    MaskFeatures,
    Predictions,
    TokenPredictions,
)
from uniphd.models.position import sine_position_2d
from uniphd.models.prompt_encoder import PromptEncoder, PromptTokens
from uniphd.models.query_selection import QuerySelection
from uniphd.models.rescoring import GroundingRescoring
from uniphd.prompts import PromptBatch
from uniphd.prompts.sources import PromptSources
from uniphd.structures import Captions, Size


class UniPHD(nn.Module):
    """The whole network, composed of its parts.

    Args:
        backbone: image -> maps at strides 4, 8, 16, 32.
        prompt_encoder: prompt -> tokens.
        neck: maps at strides 8, 16, 32 -> levels of C channels.
        fusion: levels x prompt -> levels; None for levels that do not meet the prompt.
        encoder: deformable self-attention over the levels.
        query_selection: the encoder's best tokens -> query groups.
        decoder: query groups x memory -> refined groups.
        heads: groups -> class, box, keypoints, visibility, one head per decoder layer.
        mask_head: groups x memory -> masks, on request.
        keypoints: name of the keypoint set whose poses the network predicts.
        rescoring: grounding over a query's own mask -> what to add to its class logit; None, as in
            the paper, for nothing.

    Raises:
        ConfigError: a part is missing; the rescoring needs grounding logits that the fusion does
            not make, or levels that the neck does not have; a part has another number of keypoints
            than the set.
    """

    def __init__(
        self,
        backbone: Backbone,
        prompt_encoder: PromptEncoder,
        neck: ChannelMapper,
        fusion: PromptFusion | NoFusion | None,
        encoder: DeformableEncoder,
        query_selection: QuerySelection,
        decoder: PoseDecoder,
        heads: PredictionHeads,
        mask_head: MaskHead,
        rescoring: GroundingRescoring | None = None,
        keypoints: str = COCO17.name,
    ) -> None:
        super().__init__()
        _require_parts(
            backbone=backbone,
            prompt_encoder=prompt_encoder,
            neck=neck,
            encoder=encoder,
            query_selection=query_selection,
            decoder=decoder,
            heads=heads,
            mask_head=mask_head,
        )
        self.schema = keypoint_schema(keypoints)
        for name, part in (("query_selection", query_selection), ("decoder", decoder)):
            if part.num_keypoints != len(self.schema):
                raise ConfigError(
                    f"model.{name}.num_keypoints is {part.num_keypoints}, but {self.schema} is "
                    "chosen; give both parts as many."
                )
        fusion = NoFusion() if fusion is None else fusion
        if rescoring is not None:
            rescoring.check(fusion, neck)
        self.backbone = backbone
        self.prompt_encoder = prompt_encoder
        self.neck = neck
        self.fusion = fusion
        self.encoder = encoder
        self.query_selection = query_selection
        self.decoder = decoder
        self.heads = heads
        self.mask_head = mask_head
        self.rescoring = rescoring

    def forward(
        self,
        images: Tensor,
        padding_mask: Tensor,
        sizes: tuple[Size, ...],
        prompts: PromptBatch,
        image_index: Sequence[int] | None = None,
        captions: Captions | None = None,
    ) -> Predictions:
        """Predict the referred person of every prompt.

        Args:
            images: (P, 3, H, W) RGB, uint8 or float in [0, 1]; H and W at least 32.
            padding_mask: (P, H, W) bool, True on padding.
            sizes: B times the (h, w) inside the canvas of the prompt's image.
            prompts: B prompts.
            image_index: B times the index of the prompt's image; None for one prompt per image, in
                their order. What does not depend on the prompt is computed once per image.
            captions: more texts, which only get grounding logits.

        Raises:
            PromptError: prompts, sizes and images do not belong together.
            ConfigError: there are captions, and the fusion gives no grounding logits.
        """
        encoded = self.encode(images, padding_mask)
        return self.predict(encoded, sizes, prompts, image_index, captions)

    def encode(self, images: Tensor, padding_mask: Tensor) -> EncodedImages:
        """The first part of `forward`: what does not depend on the prompt."""
        images, padding_mask = self.backbone.prepare(images, padding_mask)
        stride4, stride8, stride16, stride32 = self.backbone(images)
        levels = self.neck([stride8, stride16, stride32])
        shapes = tuple((level.shape[-2], level.shape[-1]) for level in levels)
        paddings = [resize_padding(padding_mask, shape) for shape in shapes]
        maps = [sine_position_2d(padding, levels[0].shape[1] // 2) for padding in paddings]
        return EncodedImages(
            tokens=flatten_levels(levels),
            positions=flatten_levels(maps),
            padding=torch.cat([level.flatten(1) for level in paddings], dim=1),
            valid_ratios=torch.stack([valid_ratio(level) for level in paddings], dim=1),
            shapes=shapes,
            stride4=stride4,
            stride8=stride8,
            stride16=stride16,
            stride16_positions=maps[1],
            canvas=(images.shape[-2], images.shape[-1]),
        )

    def predict(
        self,
        encoded: EncodedImages,
        sizes: tuple[Size, ...],
        prompts: PromptBatch,
        image_index: Sequence[int] | None = None,
        captions: Captions | None = None,
    ) -> Predictions:
        """The second part of `forward`, which may be asked again; its arguments and errors."""
        return self.decode(self.fuse(encoded, sizes, prompts, image_index, captions))

    def decode(self, fused: FusedFeatures) -> Predictions:
        """The second half of `predict`, from the encoder on."""
        memory = self.encoder(
            fused.tokens, fused.positions, fused.shapes, fused.padding, fused.valid_ratios
        )
        selection = self.query_selection(
            memory,
            fused.padding,
            fused.shapes,
            fused.valid_ratios,
            fused.global_embedding,
            fused.stride4,
        )
        layers = self.decoder(
            selection.groups,
            selection.reference,
            memory,
            fused.shapes,
            fused.padding,
            fused.valid_ratios,
            self.heads,
        )
        mask_memory = sum_levels(unflatten_levels(memory, fused.shapes)[:3])
        mask_features = MaskFeatures(mask_memory, fused.stride8, fused.stride4, fused.extent)
        if self.rescoring is not None and fused.grounding is not None:
            layers = [
                self.rescoring.rescore(layer, fused.grounding, self.mask_head, mask_features)
                for layer in layers
            ]
        return Predictions(
            layers=tuple(layers),
            selection=selection.prediction,
            mask_features=mask_features,
            tokens=TokenPredictions(
                selection.proposals, fused.grounding, selection.heatmaps, fused.canvas
            ),
        )

    def fuse(
        self,
        encoded: EncodedImages,
        sizes: tuple[Size, ...],
        prompts: PromptBatch,
        image_index: Sequence[int] | None = None,
        captions: Captions | None = None,
    ) -> FusedFeatures:
        """The first half of `predict`, up to the encoder; arguments and errors are the same."""
        device = encoded.tokens.device
        rows = _image_rows(image_index, len(encoded), len(prompts), len(sizes), device)
        extent = torch.tensor([(w, h) for h, w in sizes], dtype=torch.float32)
        prompt = self.prompt_encoder(
            prompts,
            select_rows(encoded.stride16, rows),
            select_rows(encoded.stride16_positions, rows),
            encoded.canvas,
        )
        extent = extent.to(device, non_blocking=True)
        fused = self.meet(encoded, rows, extent, prompt, prompts)
        if captions is None:
            return fused
        return replace(fused, grounding=self._ground(captions, fused.grounding, encoded, rows))

    def meet(
        self,
        encoded: EncodedImages,
        rows: Tensor | None,
        extent: Tensor,
        prompt: PromptTokens,
        sources: PromptSources,
    ) -> FusedFeatures:
        """The images' tokens after the fusion with encoded prompts.

        Args:
            encoded: P images.
            rows: (B,) index of every prompt's image; None for one prompt per image, in order.
            extent: (B, 2) float32 (width, height) of its image on the canvas, in pixels.
            prompt: B encoded prompts.
            sources: which of them are texts.
        """
        visual, positions = select_rows(encoded.tokens, rows), select_rows(encoded.positions, rows)
        padding = select_rows(encoded.padding, rows)
        fused = self.fusion(visual, positions, prompt, sources)
        grounding = None
        if fused.grounding_logits is not None:
            every = torch.arange(extent.shape[0], device=extent.device)
            grounding = GroundingPrediction(fused.grounding_logits, padding, every, encoded.shapes)
        return FusedFeatures(
            tokens=fused.tokens,
            positions=positions,
            padding=padding,
            valid_ratios=select_rows(encoded.valid_ratios, rows),
            shapes=encoded.shapes,
            global_embedding=prompt.global_embedding,
            stride8=select_rows(encoded.stride8, rows),
            stride4=select_rows(encoded.stride4, rows),
            extent=extent,
            grounding=grounding,
            canvas=encoded.canvas,
        )

    def read_tokens(self, fused: FusedFeatures) -> TokenPredictions:
        """What is said of all tokens as if the encoder changed nothing, for losses before it."""
        selection = self.query_selection
        proposals = selection.propose(fused.tokens, fused.padding, fused.shapes, fused.valid_ratios)
        heatmaps = selection.maps(proposals, fused.stride4, fused.valid_ratios)
        return TokenPredictions(proposals, fused.grounding, heatmaps, fused.canvas)

    def _ground(
        self,
        captions: Captions,
        prompts: GroundingPrediction | None,
        encoded: EncodedImages,
        rows: Tensor | None,
    ) -> GroundingPrediction:
        """The captions' logits behind those of the prompts."""
        if prompts is None or not isinstance(self.fusion, ProductFusion):
            raise ConfigError(
                f"Captions beside the prompts are grounded, which {type(self.fusion).__name__} "
                "does not do; use model=uniphd_plus or data.num_extra_captions=0."
            )
        prompt_rows = torch.tensor(captions.rows).to(encoded.tokens.device, non_blocking=True)
        texts = self.prompt_encoder.encode_text(captions.prompts)
        image_index = prompt_rows if rows is None else rows[prompt_rows]
        logits = self.fusion.ground(encoded.tokens, encoded.positions, texts, image_index)
        return replace(
            prompts,
            logits=torch.cat([prompts.logits, logits]),
            padding=torch.cat([prompts.padding, prompts.padding[prompt_rows]]),
            rows=torch.cat([prompts.rows, prompt_rows]),
        )


def _image_rows(
    image_index: Sequence[int] | None, count: int, prompts: int, sizes: int, device: torch.device
) -> Tensor | None:
    """Index (B,) of every prompt's image; None where that is the prompt's own number."""
    rows = range(count) if image_index is None else image_index
    if not prompts == len(rows) == sizes or not all(0 <= row < count for row in rows):
        raise PromptError(
            f"There are {prompts} prompts and {sizes} sizes for {count} images; give every "
            f"prompt one size and, in `image_index`, one index below {count}."
        )
    if list(rows) == list(range(count)):
        return None
    return torch.tensor(rows).to(device, non_blocking=True)


def _require_parts(**parts: nn.Module | None) -> None:
    for name, part in parts.items():
        if part is None:
            raise ConfigError(
                f"model.{name} is null, but the network needs all its parts; what can be left out "
                "is a choice: model.fusion=null, loss=no_mask, loss=no_pose, "
                "model.decoder.within_attention=none."
            )
