"""The engine that runs a network in PyTorch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from uniphd.data.collate import pad_images
from uniphd.inference.detect import choose, mask_logits, top_queries
from uniphd.inference.encoded import Engine, People
from uniphd.models.outputs import EncodedImages
from uniphd.models.uniphd import UniPHD
from uniphd.prompts import PromptBatch
from uniphd.structures import Size


@dataclass(frozen=True, eq=False)
class NetworkEngine(Engine):
    """A network, as it was built and loaded.

    Attributes:
        network: in evaluation mode.
        device: of the network.
        dtype: of automatic mixed precision; None for 32-bit numbers.
        token_bytes: of image tokens at once, at most, unless a single prompt has more; None for as
            many as there are.
    """

    network: UniPHD
    device: torch.device
    dtype: torch.dtype | None
    token_bytes: int | None = None

    def prompts_at_once(self, features: EncodedImages) -> int:
        """See the base."""
        if self.token_bytes is None:
            return self.batch_size
        return max(1, min(self.batch_size, self.token_bytes // features.tokens[0].nbytes))

    def compute_features(self, image: Tensor) -> EncodedImages:
        """See the base."""
        pixels, padding_mask = pad_images([image])
        with self._computing():
            return self.network.encode(pixels.to(self.device), padding_mask.to(self.device))

    def compute_people(
        self, features: EncodedImages, size: Size, prompts: PromptBatch, top_k: int
    ) -> People:
        """See the base."""
        count = len(prompts)
        with self._computing():
            predictions = self.network.predict(
                features, (size,) * count, prompts.to(self.device), (0,) * count
            )
            best = top_queries(predictions.final.logits, top_k)
            masks = mask_logits(self.network, predictions, best)
            return People(choose(predictions.final, best), masks)

    @contextmanager
    def _computing(self) -> Iterator[None]:
        autocast = torch.autocast(self.device.type, self.dtype, enabled=self.dtype is not None)
        with torch.inference_mode(), autocast:
            yield
