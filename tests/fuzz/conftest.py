"""Reports how many cases the fuzz tests drew."""

from __future__ import annotations

import pytest

from tests.fuzz.cases import counts


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if counts:
        terminalreporter.write_line(
            f"fuzz: {counts.total():,} cases, {counts['results']:,} ended in a result, "
            f"{counts['refused']:,} in one of our errors"
        )
