"""`python -m parity GOLDEN`: hold network, losses and metrics against stored official numbers."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from parity import checks_losses, checks_metrics, checks_model, checks_modules, checks_postprocess
from parity.comparison import Comparison
from parity.official_network import load_official_network
from uniphd.models.uniphd import UniPHD

NETWORK_CHECKS = {**checks_model.CHECKS, **checks_modules.CHECKS}
OTHER_CHECKS = {**checks_losses.CHECKS, **checks_metrics.CHECKS, **checks_postprocess.CHECKS}


def check_file(path: Path, network: UniPHD | None = None) -> list[Comparison]:
    """Run the check of one file.

    Args:
        path: an .npz; its name without its set's suffix (`fusion_a` -> `fusion`) says which check.
        network: the official one, for files that need it.

    Raises:
        ValueError: there is no check for files of this name.
    """
    name = re.sub(r"_[^_]+$", "", path.stem)
    with np.load(path, allow_pickle=False) as arrays:
        content = dict(arrays)
    if network is not None and name in NETWORK_CHECKS:
        return NETWORK_CHECKS[name](content, network)
    if name in OTHER_CHECKS:
        return OTHER_CHECKS[name](content)
    raise ValueError(f"there is no check for files named {name}")


def beyond_tolerance(path: Path, network: UniPHD | None = None) -> list[str]:
    """The items of a file that are not the official ones, with their errors; see `check_file`."""
    return [
        f"{item.item}: {item.max_abs:.1e} instead of {item.atol:.0e}"
        for item in check_file(path, network)
        if not item.passed
    ]


def main() -> None:
    """Run every file's check, print a table, exit with 1 when one failed."""
    parser = argparse.ArgumentParser(prog="python -m parity", description=__doc__)
    parser.add_argument("golden", type=Path, help="folder with the official numbers")
    golden: Path = parser.parse_args().golden
    files = sorted(golden.glob("*.npz"))
    if not files:
        sys.exit(f"There are no .npz files in {golden}.")
    network = load_official_network(golden)
    results: dict[str, list[Comparison]] = {}
    broken: dict[str, str] = {}
    for path in files:
        try:
            results[path.stem] = check_file(path, network)
        except Exception as error:  # the other files are still worth their checks
            broken[path.stem] = f"{type(error).__name__}: {error}"
    Console(width=120).print(_table(results))
    items = [item for items in results.values() for item in items]
    failed = sum(not item.passed for item in items)
    print(
        f"{len(files)} files, {len(items)} items, {failed} beyond tolerance, {len(broken)} broken"
    )
    for name, reason in broken.items():
        print(f"{name} could not be checked: {reason}")
    sys.exit(1 if failed or broken else 0)


def _table(results: dict[str, list[Comparison]]) -> Table:
    table = Table("file", "item", "max abs error", "max rel error", "tolerance", "", title="Parity")
    for row in _rows(results):
        table.add_row(*row)
    return table


def _rows(results: dict[str, list[Comparison]]) -> Iterator[tuple[str, ...]]:
    for file, comparisons in results.items():
        for index, comparison in enumerate(comparisons):
            yield (
                file if index == 0 else "",
                comparison.item,
                f"{comparison.max_abs:.1e}",
                f"{comparison.max_rel:.1e}",
                f"{comparison.atol:.0e}",
                "ok" if comparison.passed else "FAIL",
            )


if __name__ == "__main__":
    main()
