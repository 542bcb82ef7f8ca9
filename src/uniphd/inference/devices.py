"""Devices by name."""

from __future__ import annotations

import torch

from uniphd.errors import ConfigError


def find_device(name: str | torch.device) -> torch.device:
    """The device of a name; "auto" is the first GPU, or the CPU.

    Raises:
        ConfigError: there is none, or it does not work.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, TypeError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(
            f"The device {str(name)!r:.80} cannot be used ({reason:.200}); give auto, cpu or cuda."
        ) from error
    return device
