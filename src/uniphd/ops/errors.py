"""The error of the native operators."""

from __future__ import annotations

from uniphd.errors import UniPHDError

_LOG_LINES = 20


class NativeOpsError(UniPHDError):
    """The native operators cannot be built or loaded.

    Args:
        reason: one line.
        log: what the compiler said, where one ran; the message carries its last lines.
    """

    def __init__(self, reason: str, *log: str) -> None:
        super().__init__(reason, *"\n".join(log).strip().splitlines()[-_LOG_LINES:])
        self.reason = reason
