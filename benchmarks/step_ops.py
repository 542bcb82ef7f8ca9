"""What a training step asks of a GPU, counted on a machine without one.

    python benchmarks/step_ops.py experiment=swint_refhuman text_encoder=roberta_base_random \
        backbone.pretrained=false

Arguments are those of uniphd-train. A batch of four people (text, point, scribble, text) goes
through the network and its losses as fake tensors, which have shapes and no values. Counted are:

    calls   ATen calls that compute or copy, each of which starts at least one kernel, by part and
            by source file; views and allocations are not counted.
    waits   whatever makes the host wait for the GPU in forward pass and losses: values that are
            read back, copies between host and GPU that block, and operators whose result's size
            depends on values. The tensors are on a fake GPU.
"""

from __future__ import annotations

import argparse
import importlib
import re
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.symbolic_shapes import ShapeEnv
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from uniphd.config.compose import build, build_network, config_dir, fill_resolvers
from uniphd.models import swin
from uniphd.models.tokenizer import HashTokenizer
from uniphd.prompts import PointPrompt, Prompt, ScribblePrompt, TextPrompt, batch_prompts
from uniphd.structures import Batch, Size, Target, pack_targets

PARTS = ("forward", "loss", "backward")
SIZES: tuple[Size, ...] = ((640, 576), (512, 640), (640, 640), (480, 608))
_SOURCES = ("uniphd", "timm", "transformers")  # packages whose files are named
_ATEN = torch.ops.aten
_READS = {_ATEN._local_scalar_dense.default, _ATEN.equal.default, _ATEN.is_nonzero.default}
_COPIES = {_ATEN._to_copy.default: 0, _ATEN.copy_.default: 1}
_NO_KERNELS = {_ATEN._unsafe_view, _ATEN.empty, _ATEN.empty_like, _ATEN.new_empty}
_SAMPLERS = {_ATEN.grid_sampler_2d.default, _ATEN.cudnn_grid_sampler.default}


@dataclass
class StepCount:
    """What was counted, by part of the step.

    Attributes:
        calls: by part and "file:line operator".
        waits: likewise.
    """

    calls: dict[str, Counter[str]] = field(default_factory=dict)
    waits: dict[str, Counter[str]] = field(default_factory=dict)


class Counting(TorchDispatchMode):
    """Counts the calls of one part of a step.

    Attributes:
        calls: by "file:line operator".
        waits: likewise.
    """

    def __init__(self) -> None:
        super().__init__()
        self.calls: Counter[str] = Counter()
        self.waits: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        place = f"{_place()} {func}"
        if _waits(func, args, kwargs):
            self.waits[place] += 1
            if func in _READS:
                return True  # there is no value; a step goes on
        if func.namespace == "aten" and not (func.is_view or func.overloadpacket in _NO_KERNELS):
            self.calls[place] += 1
        if func in _SAMPLERS:  # PyTorch has no fake one for CUDA
            source, grid = args[:2]
            return source.new_empty(*source.shape[:2], *grid.shape[1:3])
        return func(*args, **kwargs)


def _waits(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Whether the host waits for the GPU in a call."""
    tensors = [value for value in args if isinstance(value, Tensor)]
    on_gpu = any(value.device.type == "cuda" for value in tensors)
    if func is _ATEN.index.Tensor:  # boolean indices are looked for with nonzero
        indices = [value for value in args[1] if value is not None]
        return on_gpu and any(
            one.dtype == torch.bool or one.device.type == "cpu" for one in indices
        )
    if func in _READS or torch.Tag.dynamic_output_shape in func.tags:
        return on_gpu
    if func is _ATEN.index_put_.default or func is _ATEN.index_put.default:
        indices, value = args[1], args[2]
        return any(one is not None and one.device != args[0].device for one in (*indices, value))
    if func not in _COPIES:
        return False
    source = args[_COPIES[func]]
    target = args[0].device if func is _ATEN.copy_.default else kwargs.get("device")
    blocking = not (kwargs.get("non_blocking") or (len(args) > 2 and args[2]))
    return target is not None and torch.device(target).type != source.device.type and blocking


def _place() -> str:
    """File and line of the nearest caller that is no part of PyTorch."""
    frame = sys._getframe(2)
    while frame is not None:
        path = Path(frame.f_code.co_filename).parts
        for package in _SOURCES:
            if package in path and "torch" not in path:
                start = len(path) - 1 - path[::-1].index(package)
                return f"{'/'.join(path[start:])}:{frame.f_lineno}"
        frame = frame.f_back  # type: ignore[assignment]
    return "autograd"


def make_batch() -> Batch:
    """Four people, one per image, of three prompt kinds."""
    generator = torch.Generator().manual_seed(0)
    canvas = (max(height for height, _ in SIZES), max(width for _, width in SIZES))
    padding_mask = torch.ones(len(SIZES), *canvas, dtype=torch.bool)
    for row, (height, width) in enumerate(SIZES):
        padding_mask[row, :height, :width] = False
    prompts: list[Prompt] = [
        TextPrompt("the girl on the left with a red hat"),
        PointPrompt(torch.tensor([200.0, 300.0])),
        ScribblePrompt(torch.rand(12, 2, generator=generator) * 400),
        TextPrompt("man"),
    ]
    targets = [
        Target(
            labels=torch.ones(1, dtype=torch.int64),
            boxes=torch.tensor([[0.5, 0.5, 0.4, 0.6]]),
            keypoints=torch.rand(1, 17, 2, generator=generator),
            visibility=torch.ones(1, 17),
            area=torch.tensor([0.2]),
            masks=torch.ones(1, *size, dtype=torch.bool),
        )
        for size in SIZES
    ]
    return Batch(
        images=torch.zeros(len(SIZES), 3, *canvas, dtype=torch.uint8),
        padding_mask=padding_mask,
        image_index=tuple(range(len(SIZES))),
        sizes=SIZES,
        original_sizes=SIZES,
        prompts=batch_prompts(prompts, HashTokenizer()),
        packed_targets=pack_targets(targets, canvas),
        image_ids=tuple(range(len(SIZES))),
        person_ids=tuple(range(len(SIZES))),
    )


def count_step(config: DictConfig) -> StepCount:
    """Count the calls and waits of one training step.

    Args:
        config: composed from `configs/train.yaml`.
    """
    counted = StepCount()
    for device in ("cpu", "cuda"):
        network, _ = build_network(config)
        criterion = build(config.loss)
        batch = make_batch()
        with FakeTensorMode(allow_non_fake_inputs=True, shape_env=ShapeEnv()), _as_on_gpu():
            _to_fake(network.train(), device)
            _to_fake(criterion, device)
            batch = batch.to(device, non_blocking=True)
            _run(network, criterion, batch, backward=False)  # fills what is kept
            counts = _run(network, criterion, batch, backward=device == "cpu")
        for part, counting in counts.items():
            if device == "cpu":
                counted.calls[part] = counting.calls
            else:
                counted.waits[part] = counting.waits
    return counted


@contextmanager
def _as_on_gpu() -> Iterator[None]:
    """Let fake tensors take the ways that real ones take on a GPU.

    Attention and dropout are one kernel each there, where fake tensors take them apart, and the
    constants of an image size are kept from one step to the next.
    """
    operator = importlib.import_module("uniphd.ops.ms_deform_attn")
    fill = lru_cache(operator._fill_levels)
    shift_mask = lru_cache(swin._shift_mask.__wrapped__)  # must not keep fake tensors
    with (
        patch.object(operator, "_fill_levels", lambda shapes, device: fill(tuple(shapes), device)),
        patch.object(swin, "_shift_mask", shift_mask),
        patch.object(functional, "scaled_dot_product_attention", _attention),
        patch.object(functional, "dropout", _dropout),
    ):
        yield


def _attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    *_: Any,
    **__: Any,
) -> Tensor:
    if attn_mask is not None and attn_mask.dtype == torch.bool:
        attn_mask = attn_mask.to(query.dtype)
    out: Tensor = _ATEN._scaled_dot_product_efficient_attention(
        query, key, value, attn_mask, True, dropout_p
    )[0]
    return out


def _dropout(x: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    return torch.native_dropout(x, p, training)[0] if training and p else x


def _to_fake(module: nn.Module, device: str) -> None:
    """Replace a module's tensors by fake ones of the same shapes."""
    before = torch.__future__.get_overwrite_module_params_on_conversion()
    torch.__future__.set_overwrite_module_params_on_conversion(True)
    try:
        module.to_empty(device=torch.device(device))
    finally:
        torch.__future__.set_overwrite_module_params_on_conversion(before)


def _run(
    network: nn.Module, criterion: nn.Module, batch: Batch, backward: bool
) -> dict[str, Counting]:
    """Run the parts of a step one after the other; PyTorch has no backward pass on a fake GPU."""
    counts = {part: Counting() for part in (PARTS if backward else PARTS[:2])}
    with counts["forward"]:
        predictions = network(*batch.inputs, captions=batch.extra_captions)
    with counts["loss"]:
        indices = (batch.image_index, batch.person_ids)
        result = criterion(predictions, batch.targets, network, float(len(batch)), *indices)
    if backward:
        with counts["backward"]:
            result.total.backward()
    return counts


def main() -> None:
    """Count a step and print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=12, help="per part (default: 12)")
    parser.add_argument("--lines", action="store_true", help="by line and operator, not by file")
    parser.add_argument("overrides", nargs="*", help="as for uniphd-train")
    options = parser.parse_intermixed_args()
    fill_resolvers()
    with initialize_config_dir(str(config_dir()), version_base="1.3"):
        config = compose("train", [*options.overrides, "paths.output_dir=unused", "data.root=none"])
    report(count_step(config), options.rows, options.lines)


def report(counted: StepCount, rows: int, lines: bool) -> None:
    """Print calls by part and place, and every wait."""
    table = Table("part", "place", "calls", title="ATen calls that compute or copy")
    for part, calls in counted.calls.items():
        table.add_row(part, "", str(calls.total()), style="bold")
        places: Counter[str] = Counter()
        for place, number in calls.items():
            places[place if lines else re.split(r"[: ]", place)[0]] += number
        for place, number in places.most_common(rows):
            table.add_row("", place, str(number))
    Console().print(table)
    waits = [(part, *one) for part, found in counted.waits.items() for one in found.most_common()]
    print(f"{sum(number for *_, number in waits)} waits for the device")
    for part, place, number in waits:
        print(f"  {part}: {number} x {place}")


if __name__ == "__main__":
    main()
