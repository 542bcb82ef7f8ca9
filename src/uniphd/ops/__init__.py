"""Operators with native kernels; importing this package compiles nothing."""

from __future__ import annotations

from uniphd.ops.ms_deform_attn import ms_deform_attn

__all__ = ["ms_deform_attn"]
