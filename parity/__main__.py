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


def golden_files(golden: Path) -> list[Path]:
    """The folder's stored inputs and outputs."""
    return sorted(golden.glob("*.npz"))


def check_name(path: Path) -> str:
    """Which check a file is for: its name without its set's suffix (`fusion_a` -> `fusion`)."""
    return re.sub(r"_[^_]+$", "", path.stem)


def check_file(path: Path, network: UniPHD) -> list[Comparison]:
    """Run the check of one file.

    Raises:
        KeyError: there is no check for files of this name.
    """
    name = check_name(path)
    with np.load(path, allow_pickle=False) as arrays:
        content = dict(arrays)
    if name in NETWORK_CHECKS:
        return NETWORK_CHECKS[name](content, network)
    return OTHER_CHECKS[name](content)


def main() -> None:
    """Run every file's check, print a table, exit with 1 when one is beyond tolerance."""
    parser = argparse.ArgumentParser(prog="python -m parity", description=__doc__)
    parser.add_argument("golden", type=Path, help="folder with the official numbers")
    golden: Path = parser.parse_args().golden
    files = golden_files(golden)
    if not files:
        sys.exit(f"There are no .npz files in {golden}.")
    network = load_official_network(golden)
    results = {path.stem: check_file(path, network) for path in files}
    Console(width=120).print(_table(results))
    comparisons = [item for items in results.values() for item in items]
    failed = sum(not comparison.passed for comparison in comparisons)
    print(f"{len(files)} files, {len(comparisons)} items, {failed} beyond tolerance")
    sys.exit(1 if failed else 0)


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
