"""What checkpoints of earlier versions call by other names, renamed while they are read.

Names of the official network never change. Add a line here when a class that a checkpoint's
configuration names, one of its constructor arguments, or a weight outside the official network gets
another name.
"""

from __future__ import annotations

from typing import Any

# Dotted paths of classes.
_TARGETS = {
    "uniphd.models.evidence.GroundingEvidence": "uniphd.models.rescoring.GroundingEvidence",
}


def renamed_config(value: Any) -> Any:
    """A checkpoint's configuration with today's names; plain nested values in, the same out."""
    if isinstance(value, dict):
        return {
            key: _TARGETS.get(item, item)
            if key == "_target_" and isinstance(item, str)
            else renamed_config(item)
            for key, item in value.items()
        }
    if isinstance(value, list):
        return [renamed_config(item) for item in value]
    return value
