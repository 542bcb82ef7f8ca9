"""The official UniPHD release's checkpoints: key names, sizes and the configuration they imply."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from uniphd.checkpoints.swin import swin_options, to_timm_swin

# Official prefix -> ours; `{}` stands for a layer number. The first match wins.
_RENAMES: tuple[tuple[str, str], ...] = (
    ("text_encoder.text_backbone.", "prompt_encoder.text_encoder.body."),
    ("text_proj.fc.", "prompt_encoder.word_projection.linear."),
    ("text_proj.layer_norm.", "prompt_encoder.word_projection.norm."),
    ("sentence_proj.fc.", "prompt_encoder.sentence_projection.linear."),
    ("sentence_proj.layer_norm.", "prompt_encoder.sentence_projection.norm."),
    ("prompt_proj.fc.", "prompt_encoder.spatial_projection.linear."),
    ("prompt_proj.layer_norm.", "prompt_encoder.spatial_projection.norm."),
    ("glob_prompt_proj.fc.", "prompt_encoder.spatial_global_projection.linear."),
    ("glob_prompt_proj.layer_norm.", "prompt_encoder.spatial_global_projection.norm."),
    ("fusion_module.multihead_attn.", "fusion.text_attention."),
    ("fusion_module.multihead_attn2.", "fusion.spatial_attention."),
    ("input_proj.", "neck.levels."),
    ("transformer.level_embed", "encoder.level_embedding"),
    ("transformer.encoder.layers.{}.self_attn.", "encoder.layers.{}.attention."),
    ("transformer.encoder.layers.{}.norm1.", "encoder.layers.{}.norm."),
    ("transformer.encoder.layers.{}.norm2.", "encoder.layers.{}.feedforward.norm."),
    ("transformer.encoder.layers.{}.linear", "encoder.layers.{}.feedforward.linear"),
    ("transformer.enc_output.", "query_selection.projection."),
    ("transformer.enc_output_norm.", "query_selection.norm."),
    ("transformer.enc_out_class_embed.", "query_selection.classifier."),
    ("transformer.enc_pose_embed.", "query_selection.keypoint_mlp."),
    ("transformer.keypoint_embedding.", "query_selection.keypoint_embedding."),
    ("transformer.decoder.half_pose_ref_point_head.", "decoder.position_mlp."),
    ("transformer.decoder.layers.{}.adjacent_matrix", "decoder.layers.{}.adjacency"),
    ("transformer.decoder.layers.{}.across_attn.", "decoder.layers.{}.across_attention."),
    ("transformer.decoder.layers.{}.across_norm.", "decoder.layers.{}.across_norm."),
    ("transformer.decoder.layers.{}.within_attn.", "decoder.layers.{}.within_attention."),
    ("transformer.decoder.layers.{}.within_norm.", "decoder.layers.{}.within_norm."),
    ("transformer.decoder.layers.{}.cross_attn.", "decoder.layers.{}.cross_attention."),
    ("transformer.decoder.layers.{}.norm1.", "decoder.layers.{}.cross_norm."),
    ("transformer.decoder.layers.{}.norm2.", "decoder.layers.{}.cross_feedforward.norm."),
    ("transformer.decoder.layers.{}.linear1.", "decoder.layers.{}.cross_feedforward.linear1."),
    ("transformer.decoder.layers.{}.linear2.", "decoder.layers.{}.cross_feedforward.linear2."),
    ("transformer.decoder.layers.{}.norm2_.", "decoder.layers.{}.within_feedforward.norm."),
    ("transformer.decoder.layers.{}.linear1_.", "decoder.layers.{}.within_feedforward.linear1."),
    ("transformer.decoder.layers.{}.linear2_.", "decoder.layers.{}.within_feedforward.linear2."),
    ("class_embed.{}.", "heads.{}.classifier."),
    ("bbox_embed.{}.", "heads.{}.box_mlp."),
    ("pose_embed.{}.", "heads.{}.keypoint_mlp."),
    ("pose_visi_embed.{}.", "heads.{}.visibility."),
    ("controller.", "mask_head.controller."),
    ("mask_refine.conv1_1div8.", "mask_head.refine8.conv1."),
    ("mask_refine.conv2_1div8.", "mask_head.refine8.conv2."),
    ("mask_refine.conv1_1div4.", "mask_head.refine4.conv1."),
    ("mask_refine.conv2_1div4.", "mask_head.refine4.conv2."),
)
_PATTERNS = tuple(
    (re.compile(re.escape(old).replace(r"\{\}", r"(\d+)")), new.replace("{}", r"\g<1>"))
    for old, new in _RENAMES
)

# The decoder holds the heads a second time, and old transformers versions stored a constant.
_ALIASES = re.compile(r"transformer\.decoder\.(class|bbox|pose)_embed\.")
_CONSTANTS = re.compile(r".*\.(position_ids|token_type_ids|relative_position_index)$")
_BACKBONE = "backbone.0."


def to_uniphd(key: str) -> str | None:
    """Our name of an official state-dict entry; None for aliases and constants that we do not keep.

    Raises:
        KeyError: the entry is not one of the official network's.
    """
    if _ALIASES.match(key) or _CONSTANTS.match(key):
        return None
    if key.startswith(_BACKBONE):
        return _backbone_key(key.removeprefix(_BACKBONE))
    for pattern, replacement in _PATTERNS:
        if pattern.match(key):
            return pattern.sub(replacement, key, count=1)
    raise KeyError(key)


def _backbone_key(key: str) -> str:
    if match := re.match(r"norm([0-3])\.(.+)", key):
        return f"backbone.norms.{match[1]}.{match[2]}"
    return f"backbone.body.{to_timm_swin(key)}"


def official_config(state: Mapping[str, Tensor], num_queries: int = 20) -> dict[str, Any]:
    """The configuration of `uniphd.models.uniphd.UniPHD` that fits an official state dict.

    Sizes are read off the tensors; the number of query groups is not visible in them.

    Args:
        state: official names -> tensors.
        num_queries: query groups (`num_group` of the official arguments).
    """
    backbone = swin_options(
        {
            key.removeprefix(_BACKBONE): value
            for key, value in state.items()
            if key.startswith(_BACKBONE)
        }
    )
    levels, hidden_dim = state["transformer.level_embed"].shape
    transformer = {
        "hidden_dim": hidden_dim,
        "num_heads": state["transformer.decoder.layers.0.adjacent_matrix"].shape[0],
        "num_levels": levels,
        "num_points": 4,
        "feedforward_dim": state["transformer.encoder.layers.0.linear1.bias"].shape[0],
        "dropout": 0.0,
    }
    encoder_layers = _count(state, r"transformer\.encoder\.layers\.(\d+)\.")
    decoder_layers = _count(state, r"transformer\.decoder\.layers\.(\d+)\.")
    width = {"hidden_dim": hidden_dim}
    return _part(
        "uniphd.UniPHD",
        backbone=_part("backbone.Backbone", normalize=True, **backbone),
        prompt_encoder=_part(
            "prompt_encoder.PromptEncoder",
            text_encoder=_part("text_encoder.TextEncoder", config=_roberta_config(state)),
            feature_dim=backbone["channels"][2],
            **width,
        ),
        neck=_part(
            "channel_mapper.ChannelMapper",
            in_channels=backbone["channels"][1:],
            num_levels=levels,
            **width,
        ),
        fusion=_part("fusion.PromptFusion", num_heads=transformer["num_heads"], **width),
        encoder=_part("encoder.DeformableEncoder", num_layers=encoder_layers, **transformer),
        query_selection=_part("query_selection.QuerySelection", num_queries=num_queries, **width),
        decoder=_part("decoder.PoseDecoder", num_layers=decoder_layers, **transformer),
        heads=_part("heads.PredictionHeads", num_layers=decoder_layers, **width),
        mask_head=_part(
            "mask_head.MaskHead",
            stride4_dim=backbone["channels"][0],
            stride8_dim=backbone["channels"][1],
            **width,
        ),
    )


def _part(target: str, **arguments: Any) -> dict[str, Any]:
    """The configuration node of one of our modules."""
    return {"_target_": f"uniphd.models.{target}", **arguments}


def _roberta_config(state: Mapping[str, Tensor]) -> dict[str, Any]:
    prefix = "text_encoder.text_backbone."
    vocabulary, hidden = state[prefix + "embeddings.word_embeddings.weight"].shape
    return {
        "model_type": "roberta",
        "vocab_size": vocabulary,
        "hidden_size": hidden,
        "num_hidden_layers": _count(state, re.escape(prefix) + r"encoder\.layer\.(\d+)\."),
        "num_attention_heads": hidden // 64,
        "intermediate_size": state[prefix + "encoder.layer.0.intermediate.dense.bias"].shape[0],
        "max_position_embeddings": state[prefix + "embeddings.position_embeddings.weight"].shape[0],
        "type_vocab_size": state[prefix + "embeddings.token_type_embeddings.weight"].shape[0],
        "layer_norm_eps": 1e-5,
        "pad_token_id": 1,
        "bos_token_id": 0,
        "eos_token_id": 2,
    }


def _count(state: Mapping[str, Tensor], pattern: str) -> int:
    """One more than the largest number that `pattern` captures among the keys."""
    compiled = re.compile(pattern)
    return 1 + max(int(match[1]) for key in state if (match := compiled.match(key)))
