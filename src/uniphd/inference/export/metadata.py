"""What an exported graph says about itself, so that it can be used without the network."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

import uniphd
from uniphd.checkpoints.folder import ModelConfig, parse_config, with_own_tokenizer
from uniphd.errors import CheckpointError
from uniphd.keypoints import keypoint_schema
from uniphd.models.uniphd import UniPHD
from uniphd.structures import Size

METADATA_KEY = "uniphd"
_FORMAT = "uniphd-export-1"
_LARGEST_CANVAS = 8_192  # pixels a side


@dataclass(frozen=True)
class ExportMetadata:
    """Of the graphs of one export.

    Attributes:
        config: of the network, its tokenizer and the images' sizes.
        canvas: (height, width) of the image encoder's images.
        queries: people that the decoder can give per prompt.
        sampling: how maps are sampled, see `uniphd.ops.sampling`.
        identity: of weights and settings; the graphs of an export have the same.
    """

    config: ModelConfig
    canvas: Size
    queries: int
    sampling: str
    identity: str

    def to_json(self, network: UniPHD, graph: str, outputs: tuple[str, ...]) -> str:
        """For one graph; with what only readers beside this package need."""
        schema = network.schema
        content = {
            "format": _FORMAT,
            "uniphd": uniphd.__version__,
            "torch": torch.__version__,
            "graph": graph,
            "outputs": list(outputs),
            "canvas": list(self.canvas),
            "queries": self.queries,
            "sampling": self.sampling,
            "identity": self.identity,
            "image_mean": list(network.backbone.mean),
            "image_std": list(network.backbone.deviation),
            "keypoints": {
                "name": schema.name,
                "names": list(schema.names),
                "skeleton": [list(pair) for pair in schema.skeleton],
            },
            "config": asdict(self.config),
        }
        return json.dumps(content)


def parse_metadata(text: str | None, source: Path) -> ExportMetadata:
    """The inverse of `ExportMetadata.to_json`, for a file whose author may be anybody.

    Args:
        text: the entry of the file's metadata; None where there is none.
        source: the file; a tokenizer's files are beside it.

    Raises:
        CheckpointError: there is none, or it is not of an export of this version.
    """
    try:
        content: Any = json.loads(text or "null")
        if not isinstance(content, Mapping) or content.get("format") != _FORMAT:
            raise ValueError(f"its metadata '{METADATA_KEY}' is not of the format '{_FORMAT}'")
        height, width = (_integer(side, _LARGEST_CANVAS) for side in content["canvas"])
        config = with_own_tokenizer(parse_config(content["config"]), source.parent)
        keypoint_schema(config.keypoints)
        return ExportMetadata(
            config=config,
            canvas=(height, width),
            queries=_integer(content["queries"], 1 << 20),
            sampling=str(content["sampling"]),
            identity=str(content["identity"]),
        )
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise CheckpointError(
            f"{source} is not a file of uniphd-export ({error}); export the network again."
        ) from error


def _integer(value: Any, most: int) -> int:
    if type(value) is not int or not 1 <= value <= most:
        raise ValueError(f"{value!r:.80} is no number from 1 to {most}")
    return value


def identify(network: UniPHD, *settings: object) -> str:
    """A number for these weights and settings."""
    digest = hashlib.sha256(repr(settings).encode())
    for name, value in network.state_dict().items():
        digest.update(name.encode())
        digest.update(value.contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]
