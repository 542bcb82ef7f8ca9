"""The public function: what it refuses, and which backend it takes."""

from __future__ import annotations

import pytest
import torch

from tests.ops.loop import make_call
from uniphd.errors import ConfigError
from uniphd.ops import ms_deform_attn
from uniphd.ops.reference import ms_deform_attn_reference


@pytest.mark.parametrize("backend", ["reference", pytest.param("native")])
def test_bad_shapes_are_refused(backend: str, native: None) -> None:
    value, shapes, locations, weights = make_call(((3, 4), (2, 2)))
    cases = [
        ((value[0], shapes, locations, weights), r"value must be \(B, S, H, D\)"),
        ((value[:, :-1], shapes, locations, weights), "value has 15 tokens.*have 16"),
        ((value, ((3, 4), (1, 3)), locations, weights), "value has 16 tokens.*have 15"),
        ((value, ((3, 4), (-2, -2)), locations, weights), "empty level"),
        ((value, ((3, 4), (4, 0)), locations, weights), "empty level"),
        ((value, ((4, 4),), locations, weights), "sampling_locations must be"),
        ((value, shapes, locations[:1], weights[:1]), "sampling_locations must be"),
        ((value, shapes, locations[:, :, :2], weights[:, :, :2]), "sampling_locations must be"),
        ((value, shapes, locations[..., :1], weights), "sampling_locations must be"),
        ((value, shapes, locations, weights[:, :-1]), "attention_weights must be"),
        ((value, shapes, locations, weights.flatten(3)), "attention_weights must be"),
    ]
    for arguments, message in cases:
        with pytest.raises(ValueError, match=message):
            ms_deform_attn(*arguments, backend=backend)


def test_unknown_backend() -> None:
    with pytest.raises(ConfigError, match="backend is 'fast'"):
        ms_deform_attn(*make_call(), backend="fast")


def test_unknown_mode(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNIPHD_OPS", "fast")
    with pytest.raises(ConfigError, match="UNIPHD_OPS is 'fast'; set it to auto, native or"):
        ms_deform_attn(*make_call())


def took_native(call_backend: str | None = None) -> bool:
    leaves = make_call().leaves()
    output = ms_deform_attn(*leaves, backend=call_backend)
    names, ahead = set(), [output.grad_fn]
    while ahead:
        node = ahead.pop()
        if node is not None:
            names.add(node.name())
            ahead += [parent for parent, _ in node.next_functions]
    grid_sample = any("GridSampler" in name for name in names)
    native = any("uniphd" in name for name in names)
    assert grid_sample != native
    return native


@pytest.mark.parametrize(
    ("mode", "backend", "expected"),
    [
        (None, None, True),
        ("auto", None, True),
        ("native", None, True),
        ("reference", None, False),
        ("reference", "native", True),
        ("native", "reference", False),
    ],
)
@pytest.mark.usefixtures("native")
def test_choice_of_the_backend(
    mode: str | None, backend: str | None, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if mode is not None:
        monkeypatch.setenv("UNIPHD_OPS", mode)
    assert took_native(backend) == expected


def test_a_device_without_kernels_takes_the_reference() -> None:
    value, shapes, locations, weights = make_call()
    meta = [tensor.to("meta") for tensor in (value, locations, weights)]
    assert ms_deform_attn(meta[0], shapes, *meta[1:]).shape == (2, 11, 24)


def test_reference_is_what_the_function_runs() -> None:
    call = make_call()
    assert torch.equal(ms_deform_attn(*call, backend="reference"), ms_deform_attn_reference(*call))
