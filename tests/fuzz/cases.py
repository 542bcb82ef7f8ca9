"""How many cases a fuzz test draws, and what counts as a good end of one.

`UNIPHD_FUZZ` is the number of cases of all fuzz tests together, 300 by default (the fast tests);
`make fuzz` draws 20,000, other ones every time.
"""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from hypothesis import HealthCheck, Phase, settings

from uniphd.errors import UniPHDError

_FAST = 300
TOTAL = int(os.environ.get("UNIPHD_FUZZ", _FAST))
_CPU_SECONDS, _SECONDS = 20, 120  # per case; a case takes milliseconds

counts: Counter[str] = Counter()
"""How many cases ended in a result, and how many were refused."""


def share(part: float, phases: Sequence[Phase] = tuple(Phase)) -> settings:
    """Settings of a test that draws this part of all cases."""
    return settings(
        max_examples=max(5, round(part * TOTAL)),
        phases=phases,
        deadline=None,  # `ends_well` has one that also stops what hangs
        derandomize=TOTAL == _FAST,
        suppress_health_check=list(HealthCheck),
    )


@contextmanager
def ends_well(*mentioned: str) -> Iterator[None]:
    """A case: a result or one of our errors, one sentence with what it must mention, in time."""
    try:
        with _time_limit():
            yield
    except UniPHDError as error:
        message = str(error)
        assert all(text in message for text in mentioned), message
        assert len(message) < 20_000, message[:500]
        counts["refused"] += 1
    else:
        counts["results"] += 1


@contextmanager
def _time_limit() -> Iterator[None]:
    def stop(number: int, frame: object) -> None:
        raise TimeoutError(f"the case hangs ({signal.Signals(number).name})")

    timers = {signal.SIGPROF: signal.ITIMER_PROF, signal.SIGALRM: signal.ITIMER_REAL}
    previous = {number: signal.signal(number, stop) for number in timers}
    signal.setitimer(signal.ITIMER_PROF, _CPU_SECONDS)
    signal.setitimer(signal.ITIMER_REAL, _SECONDS)
    try:
        yield
    finally:
        for number, timer in timers.items():
            signal.setitimer(timer, 0)
            signal.signal(number, previous[number])
