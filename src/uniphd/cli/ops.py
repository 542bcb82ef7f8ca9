"""`uniphd-ops`: compile the native operators, check them, describe them, time them."""

from __future__ import annotations

import argparse
import datetime
import json
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from uniphd.errors import ConfigError, UniPHDError
from uniphd.ops.bench import SHAPES, Timing, bench_shape, cpu_threads
from uniphd.ops.build import build
from uniphd.ops.check import TOLERANCES, check_native
from uniphd.ops.errors import NativeOpsError
from uniphd.ops.info import describe_backend, settings, versions
from uniphd.ops.plan import NATIVE_DEVICES, find_cached, make_plan

DTYPES = {str(dtype).removeprefix("torch."): dtype for dtype in TOLERANCES}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command.

    Args:
        arguments: the command line without the program's name; None is that of the process.
    """
    options = _parser().parse_args(arguments)
    try:
        passed: bool = options.run(options)
    except UniPHDError as error:
        sys.exit(f"uniphd-ops: {error}")
    if not passed:
        sys.exit(1)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="uniphd-ops", description=_about(__doc__))
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    command = commands.add_parser("build", help="compile now, for example on a login node")
    command.set_defaults(run=_build)
    command.add_argument(
        "--device", choices=NATIVE_DEVICES, help="default: cpu, and cuda where a GPU is visible"
    )
    command.add_argument(
        "--arch", action="append", metavar="X.Y", help="GPU architecture; may be repeated"
    )

    command = commands.add_parser("check", help="compare native with reference on this machine")
    command.set_defaults(run=_check)

    command = commands.add_parser("info", help="print what a bug report needs")
    command.set_defaults(run=_info)

    command = commands.add_parser("bench", help="time native against reference")
    command.set_defaults(run=_bench)
    command.add_argument("--device", choices=NATIVE_DEVICES, default="cpu")
    command.add_argument("--dtype", choices=tuple(DTYPES), default="float32")
    command.add_argument("--shape", choices=SHAPES, help="default: all")
    command.add_argument("--batch", type=_count, default=1)
    command.add_argument("--threads", type=_count, help="CPU threads (default: as PyTorch has it)")
    command.add_argument("--repeats", type=_count, default=7, help="default: %(default)s")
    command.add_argument("--json", type=Path, metavar="FILE", help="also write the results there")
    return parser


def _about(docstring: str | None) -> str:
    return (docstring or "").partition(": ")[2]


def _count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a positive number")
    return number


def _devices() -> tuple[str, ...]:
    return NATIVE_DEVICES if torch.cuda.is_available() else ("cpu",)


def _build(options: argparse.Namespace) -> bool:
    if options.device is None:
        devices = _devices()
    else:  # the CUDA library needs that of the CPU, which holds the schemas
        devices = NATIVE_DEVICES[: NATIVE_DEVICES.index(options.device) + 1]
    for device in devices:
        archs = options.arch if device == "cuda" else None
        cached = find_cached(make_plan(device, archs)) is not None
        started = time.perf_counter()
        path = build(device, archs=archs)
        seconds = time.perf_counter() - started
        done = "found in the cache" if cached else f"compiled in {seconds:.1f} s"
        print(f"{device}: {path} ({done})")
    return True


def _check(options: argparse.Namespace) -> bool:
    passed = True
    for device in _devices():
        try:
            for dtype in TOLERANCES:
                result = check_native(device, dtype)
                errors = ", ".join(f"{part} {error:.1e}" for part, error in result.errors.items())
                verdict = "ok" if result.passed else "WRONG"
                print(
                    f"{device} {result.dtype}: {verdict} "
                    f"(errors: {errors}; allowed {result.tolerance:.0e})"
                )
                passed &= result.passed
        except NativeOpsError as error:
            print(f"{device}: native operators are not available: {error.reason}")
            passed = False
    return passed


def _info(options: argparse.Namespace) -> bool:
    _print_pairs(versions().items())
    _print_pairs(settings().items())  # what follows may compile
    _print_pairs((f"backend on {device}", describe_backend(device)) for device in _devices())
    return True


def _print_pairs(pairs: Iterable[tuple[str, str]]) -> None:
    for name, text in pairs:
        print(f"{name + ':':<22}{text}", flush=True)


def _bench(options: argparse.Namespace) -> bool:
    if options.device not in _devices():
        raise ConfigError("PyTorch sees no CUDA device; use --device cpu")
    shapes = SHAPES if options.shape is None else (options.shape,)
    timings: list[Timing] = []
    with cpu_threads(options.threads) as threads:
        for shape in shapes:
            timings += bench_shape(
                shape,
                device=options.device,
                dtype=DTYPES[options.dtype],
                batch=options.batch,
                repeats=options.repeats,
            )
        run = {
            "date": datetime.date.today().isoformat(),
            "device": options.device,
            "dtype": options.dtype,
            "batch": options.batch,
            "threads": threads,
            "repeats": options.repeats,
            "versions": versions(),
        }
    title = f"{options.device} {options.dtype}, batch {options.batch}, {threads} CPU threads"
    Console().print(_table(title, timings))
    if options.json is not None:
        _write_json(options.json, {**run, "timings": [timing.as_dict() for timing in timings]})
    return True


def _table(title: str, timings: Sequence[Timing]) -> Table:
    table = Table(title=title, box=None, padding=(0, 1, 0, 0))
    for name in ("shape", "direction"):
        table.add_column(name, no_wrap=True)
    for name in ("native ms", "reference ms", "ratio", "result MB", "native MB", "reference MB"):
        table.add_column(name.replace(" ", "\n"), justify="right", no_wrap=True)
    for timing in timings:
        table.add_row(
            timing.shape,
            timing.direction,
            f"{timing.native_seconds * 1e3:.2f}",
            f"{timing.reference_seconds * 1e3:.2f}",
            f"{timing.ratio:.1f}",
            *(
                "?" if count is None else f"{count / 1e6:.1f}"
                for count in (timing.result_bytes, timing.native_bytes, timing.reference_bytes)
            ),
        )
    return table


def _write_json(path: Path, results: dict[str, object]) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"cannot write {path}: {error.strerror}") from error
    print(f"Results: {path}")
