"""Parts of the network on their own, with the official checkpoint's weights for that part."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from parity.checks_model import OUTPUTS, STATES
from parity.comparison import Comparison
from uniphd.checkpoints.official import to_uniphd
from uniphd.models.encoder import reference_points
from uniphd.models.layers import logit
from uniphd.models.levels import resize_padding, valid_ratio
from uniphd.models.mask_head import sum_levels
from uniphd.models.outputs import MaskFeatures
from uniphd.models.position import sine_position_1d, sine_position_2d, sine_position_of_points
from uniphd.models.prompt_encoder import PromptTokens
from uniphd.models.query_selection import token_proposals
from uniphd.models.uniphd import UniPHD
from uniphd.prompts import Block, PointsBlock, PromptBatch, TextBlock
from uniphd.structures import Size

Arrays = Mapping[str, np.ndarray]


def check_ms_deform_attn_module(arrays: Arrays, network: UniPHD) -> list[Comparison]:
    """Deformable attention with 18 references a group, with one per query, and without padding."""
    module = network.get_submodule(_ours(str(arrays["prefix"])))
    shapes, padding = _shapes(arrays), _tensor(arrays, "padding_mask")
    memory = _tensor(arrays, "input_flatten")
    grouped = rearrange(_tensor(arrays, "reference_points_36"), "b q l (k c) -> b (q k) l c", c=2)
    single = _tensor(arrays, "reference_points_2")
    no_padding = torch.zeros_like(padding)
    query = _tensor(arrays, "query_2")
    with torch.inference_mode():
        outputs = {
            "out_36": module(_tensor(arrays, "query_36"), grouped, memory, shapes, padding),
            "out_2": module(query, single, memory, shapes, padding),
            "out_2_no_padding_mask": module(query, single, memory, shapes, no_padding),
        }
    return _compare_all(arrays, outputs, OUTPUTS)


def check_encoder_layer(arrays: Arrays, network: UniPHD) -> list[Comparison]:
    """One encoder layer and the reference points."""
    layer = _layer(network.encoder.layers, str(arrays["prefix"]))
    shapes = _shapes(arrays)
    with torch.inference_mode():
        reference = reference_points(shapes, _tensor(arrays, "valid_ratios"))
        source, positions = _tensor(arrays, "src"), _tensor(arrays, "pos")
        out = layer(source, positions, reference, shapes, _tensor(arrays, "padding_mask"))
    return _compare_all(arrays, {"out_reference_points": reference, "out": out}, OUTPUTS)


def check_decoder_layer(arrays: Arrays, network: UniPHD) -> list[Comparison]:
    """One decoder layer with its intermediate values."""
    layer = _layer(network.decoder.layers, str(arrays["prefix"]))
    intermediate: dict[str, Tensor] = {}
    names = {
        "mid_after_across_norm": "across_norm",
        "mid_after_norm1": "cross_norm",
        "mid_after_norm2_before_pos": "cross_feedforward",
        "mid_after_within_norm": "within_norm",
    }
    hooks = [
        layer.get_submodule(part).register_forward_hook(_store(intermediate, name))
        for name, part in names.items()
    ]
    reference = rearrange(_tensor(arrays, "reference_points"), "q b l (k c) -> b q k l c", c=2)
    with torch.inference_mode():
        intermediate["out"] = layer(
            _tensor(arrays, "tgt_pose").transpose(0, 1),
            _tensor(arrays, "query_pos").transpose(0, 1),
            reference,
            _tensor(arrays, "memory").transpose(0, 1),
            _shapes(arrays),
            _tensor(arrays, "padding_mask"),
        )
    for hook in hooks:
        hook.remove()
    transposed = {name: value.transpose(0, 1) for name, value in intermediate.items()}
    return _compare_all(arrays, transposed, OUTPUTS)


def check_decoder_stack(arrays: Arrays, network: UniPHD) -> list[Comparison]:
    """All decoder layers with the refinement of references between them."""
    hidden: list[Tensor] = []
    references: list[Tensor] = []
    hooks = [
        layer.register_forward_hook(lambda module, inputs, output: hidden.append(output))
        for layer in network.decoder.layers
    ]
    hooks += [
        head.register_forward_pre_hook(lambda module, inputs: references.append(inputs[1]))
        for head in network.heads
    ]
    with torch.inference_mode():
        predictions = network.decoder(
            _tensor(arrays, "tgt"),
            _tensor(arrays, "refpoints_sigmoid").unflatten(-1, (-1, 2)),
            _tensor(arrays, "memory"),
            _shapes(arrays),
            _tensor(arrays, "padding_mask"),
            _tensor(arrays, "valid_ratios"),
            network.heads,
        )
    for hook in hooks:
        hook.remove()
    last = predictions[-1].keypoints
    references.append(torch.cat([last.mean(2, keepdim=True), last], dim=2))
    outputs = {
        "out_refpoints": torch.stack(references).flatten(-2),
        "out_hs_first": hidden[0],
        "out_hs_last": hidden[-1],
        "out_hs_mean": torch.stack([state.mean() for state in hidden]),
        "out_hs_std": torch.stack([state.std() for state in hidden]),
    }
    return _compare_all(arrays, outputs, STATES)


def check_fusion(arrays: Arrays, network: UniPHD) -> list[Comparison]:
    """The image's update by a text, a scribble and a point."""
    visual = rearrange(_tensor(arrays, "visual"), "h w b c -> b (h w) c")
    outputs = {}
    kinds = ("text", "scribble", "point")
    for kind in kinds:
        tokens = _tensor(arrays, kind).transpose(0, 1)
        padding = torch.zeros(tokens.shape[:2], dtype=torch.bool)
        if kind == "text":
            padding = _tensor(arrays, "text_key_padding_mask")
        positions = _tensor(arrays, f"{kind}_pos").transpose(0, 1)
        prompt = PromptTokens(tokens, positions, padding, global_embedding=tokens[:, 0])
        with torch.inference_mode():
            kinds_only = _kinds_only(kind, len(visual))
            fused = network.fusion(visual, torch.zeros_like(visual), prompt, kinds_only)
        outputs[f"out_{kind}"] = fused.tokens.transpose(0, 1)
    return _compare_all(arrays, outputs, OUTPUTS)


def check_feature_resizer(arrays: Arrays, network: UniPHD) -> list[Comparison]:
    """Projection of a source's features into the common space."""
    module = network.get_submodule(_ours(str(arrays["prefix"]) + "fc.").removesuffix(".linear"))
    with torch.inference_mode():
        return _compare_all(arrays, {"out": module(_tensor(arrays, "x"))}, 1e-6)


def check_pos_embed_sine_hw(arrays: Arrays, network: UniPHD) -> list[Comparison]:
    """Position encoding of padded maps."""
    out = sine_position_2d(_tensor(arrays, "mask"), int(arrays["num_pos_feats"]))
    return _compare_all(arrays, {"out": out}, 1e-5)


def check_pos_embed_sine_1d(arrays: Arrays, network: UniPHD) -> list[Comparison]:
    """Position encoding of padded texts."""
    out = sine_position_1d(_tensor(arrays, "mask"), int(arrays["num_pos_feats"]))
    return _compare_all(arrays, {"out": out.transpose(1, 2)}, 1e-5)


def check_sineembed_position(arrays: Arrays, network: UniPHD) -> list[Comparison]:
    """Position encoding of points."""
    out = sine_position_of_points(_tensor(arrays, "pos"), arrays["out"].shape[-1] // 2)
    return _compare_all(arrays, {"out": out}, 1e-5)


def check_inverse_sigmoid(arrays: Arrays, network: UniPHD) -> list[Comparison]:
    """The logit with its clamps."""
    return _compare_all(arrays, {"out": logit(_tensor(arrays, "x"))}, 1e-6)


def check_encoder_proposals(arrays: Arrays, network: UniPHD) -> list[Comparison]:
    """Proposals in logit space, infinite where not valid, and the memory zeroed there."""
    shapes, padding = _shapes(arrays), _tensor(arrays, "padding_mask")
    lengths = [height * width for height, width in shapes]
    levels = [
        part.unflatten(1, shape)
        for part, shape in zip(padding.split(lengths, 1), shapes, strict=True)
    ]
    ratios = torch.stack([valid_ratio(level) for level in levels], dim=1)
    proposals, invalid = token_proposals(shapes, padding, ratios)
    expected = torch.from_numpy(arrays["out_proposals"])
    memory = _tensor(arrays, "memory").masked_fill(invalid.unsqueeze(-1), 0.0)
    return [
        Comparison("out_memory", memory, arrays["out_memory"], 0.0),
        Comparison("out_proposals: infinite", proposals.isinf(), expected.isinf().numpy(), 0.0),
        Comparison(
            "out_proposals: finite",
            proposals.masked_fill(proposals.isinf(), 0.0),
            expected.masked_fill(expected.isinf(), 0.0).numpy(),
            1e-5,
        ),
    ]


def check_swin_backbone(arrays: Arrays, network: UniPHD) -> list[Comparison]:
    """Feature maps and their padding masks."""
    with torch.inference_mode():
        maps = network.backbone(_tensor(arrays, "image"))
    padding = _tensor(arrays, "mask")
    outputs = {f"out_stage{index}": features for index, features in enumerate(maps)}
    for index, features in enumerate(maps):
        shape = (features.shape[-2], features.shape[-1])
        outputs[f"out_mask{index}"] = resize_padding(padding, shape)
    return _compare_all(arrays, outputs, OUTPUTS)


def check_mask_refine_mso(arrays: Arrays, network: UniPHD) -> list[Comparison]:
    """Refinement of mask channels with the backbone's finer maps."""
    head = network.mask_head
    fine, finer = _tensor(arrays, "feat_8x"), _tensor(arrays, "feat_4x")
    with torch.inference_mode():
        step8 = head.refine8(_tensor(arrays, "mask_feat_16ch").unsqueeze(1), fine)[:, 0]
        resized = F.interpolate(step8, finer.shape[-2:], mode="bilinear", align_corners=False)
        out = head.refine4(resized.unsqueeze(1), finer)[:, 0]
    outputs = {
        "side_effect_input_after": step8,
        "out": out,
        "out_pixel_shuffled": F.pixel_shuffle(out, 4),
    }
    return _compare_all(arrays, outputs, OUTPUTS)


def check_dynamic_mask_head(arrays: Arrays, network: UniPHD) -> list[Comparison]:
    """Generated weights, dynamic convolutions, refinement, and the sum of memory levels."""
    head = network.mask_head
    features = MaskFeatures(
        memory=_tensor(arrays, "mask_features"),
        stride8=_tensor(arrays, "feat_8x"),
        stride4=_tensor(arrays, "feat_4x"),
        extent=_tensor(arrays, "size").float().flip(1),
    )
    query = _tensor(arrays, "query")
    levels = [_tensor(arrays, f"sum_level{index}") for index in range(3)]
    with torch.inference_mode():
        coarse = head.coarse(features, query, _tensor(arrays, "reference_points"))
        outputs = {
            "out_dynamic_params": head.controller(query),
            "out_mask_logits_16ch": coarse,
            "out_pred_masks": head.refine(features, coarse),
            "out_sum_mask_features": sum_levels(levels),
        }
    return _compare_all(arrays, outputs, OUTPUTS)


def _tensor(arrays: Arrays, name: str) -> Tensor:
    return torch.from_numpy(arrays[name])


def _shapes(arrays: Arrays) -> list[Size]:
    return [(int(height), int(width)) for height, width in arrays["spatial_shapes"]]


def _ours(prefix: str) -> str:
    """Our name of the module whose official key prefix is given."""
    name = to_uniphd(prefix)
    if name is None:
        raise KeyError(prefix)
    return name.removesuffix(".")


def _layer(layers: Sequence[nn.Module], prefix: str) -> nn.Module:
    """The layer that an official prefix such as `transformer.encoder.layers.0.` names."""
    return layers[int(prefix.removesuffix(".").rpartition(".")[2])]


def _store(into: dict[str, Tensor], name: str):  # type: ignore[no-untyped-def]
    def hook(module: nn.Module, inputs: object, output: Tensor) -> None:
        into[name] = output

    return hook


def _kinds_only(kind: str, batch: int) -> PromptBatch:
    empty = torch.zeros((0, 0))
    block: Block = PointsBlock(empty, empty)
    if kind == "text":
        block = TextBlock(empty, empty)
    return PromptBatch((kind,) * batch, {kind: block})


def _compare_all(arrays: Arrays, outputs: Mapping[str, Tensor], atol: float) -> list[Comparison]:
    return [Comparison(name, actual, arrays[name], atol) for name, actual in outputs.items()]


CHECKS = {
    name.removeprefix("check_"): function
    for name, function in list(globals().items())
    if name.startswith("check_") and name != "check_end_to_end"
}
