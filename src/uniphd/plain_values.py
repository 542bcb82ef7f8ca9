"""What is said everywhere and needs no library: sizes and the category of people.

Tools that only read annotations start without PyTorch.
"""

from __future__ import annotations

from typing import TypeAlias

Size: TypeAlias = tuple[int, int]
"""(height, width) in pixels."""

PERSON = 1
"""The category of a person in annotations and results, and its index among the class logits."""
