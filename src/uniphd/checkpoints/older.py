"""What checkpoints of earlier versions call by other names, renamed while they are read.

Names of the official network never change. Add a line here when a class that a checkpoint's
configuration names, one of its constructor arguments, or a weight outside the official network gets
another name.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# Dotted paths of classes.
_TARGETS = {
    "uniphd.models.evidence.GroundingEvidence": "uniphd.models.rescoring.GroundingRescoring",
}

# Arguments of constructors, by today's class.
_ARGUMENTS = {
    "uniphd.models.query_selection.QuerySelection": {"map_dim": "heatmap_dim"},
    "uniphd.models.uniphd.UniPHD": {"evidence": "rescoring"},
}

# Beginnings of the names of weights.
_WEIGHTS = {
    "fusion.region_attention.": "fusion.spatial_attention.",
    "fusion.region_product.": "fusion.spatial_product.",
    "prompt_encoder.region_projection.": "prompt_encoder.spatial_projection.",
    "prompt_encoder.region_summary.": "prompt_encoder.spatial_global_projection.",
    "query_selection.keypoint_maps.": "query_selection.heatmaps.",
}


def renamed_config(value: Any) -> Any:
    """A checkpoint's configuration with today's names; plain nested values in, the same out."""
    if isinstance(value, list):
        return [renamed_config(item) for item in value]
    if not isinstance(value, dict):
        return value
    target = value.get("_target_")
    target = _TARGETS.get(target, target) if isinstance(target, str) else None
    arguments = _ARGUMENTS.get(target, {}) if target else {}
    renamed = {arguments.get(key, key): renamed_config(item) for key, item in value.items()}
    return renamed | ({"_target_": target} if target else {})


def renamed_run(content: Mapping[str, Any]) -> dict[str, Any]:
    """A training checkpoint with today's names of weights, with or without an average of them."""
    states = {"state_dict", "current_model_state"} & content.keys()
    return {**content, **{name: renamed_weights(content[name], "model.") for name in states}}


def renamed_weights(weights: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """A checkpoint's weights with today's names; all of them begin with `prefix`."""
    renamed = {}
    for name, value in weights.items():
        for old, new in _WEIGHTS.items():
            if name.startswith(prefix + old):
                name = prefix + new + name.removeprefix(prefix + old)
        renamed[name] = value
    return renamed
