"""`uniphd-ops`: compile the native operators, check them, describe them."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterable, Sequence

import torch

from uniphd.errors import printable
from uniphd.interrupt import exit_at_interrupt
from uniphd.ops.build import build
from uniphd.ops.check import TOLERANCES, check_native
from uniphd.ops.errors import NativeOpsError
from uniphd.ops.info import describe_backend, settings, versions
from uniphd.ops.plan import NATIVE_DEVICES, find_cached, make_plan
from uniphd.refusals import exit_on_user_error


@exit_at_interrupt("uniphd-ops")
def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command.

    Args:
        arguments: the command line without the program's name; None is that of the process.
    """
    options = _parser().parse_args(arguments)
    with exit_on_user_error("uniphd-ops"):
        passed: bool = options.run(options)
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
    return parser


def _about(docstring: str | None) -> str:
    return (docstring or "").partition(": ")[2]


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
        print(printable(f"{device}: {path} ({done})"))
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
            print(printable(f"{device}: native operators are not available: {error.reason}"))
            passed = False
    return passed


def _info(options: argparse.Namespace) -> bool:
    _print_pairs(versions().items())
    _print_pairs(settings().items())  # what follows may compile
    _print_pairs((f"backend on {device}", describe_backend(device)) for device in _devices())
    return True


def _print_pairs(pairs: Iterable[tuple[str, str]]) -> None:
    for name, text in pairs:
        print(printable(f"{name + ':':<22}{text}"), flush=True)
