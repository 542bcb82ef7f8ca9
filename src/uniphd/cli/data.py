"""`uniphd-data`: make, check and look at data sets."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module

from uniphd.interrupt import exit_at_interrupt
from uniphd.refusals import exit_on_user_error

_COMMANDS = ("synth", "from-coco", "check", "show", "stats", "prompts")


@exit_at_interrupt("uniphd-data")
def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command.

    Args:
        arguments: the command line without the program's name; None is that of the process.
    """
    words = sys.argv[1:] if arguments is None else arguments
    options = _parser(words).parse_args(words)
    with exit_on_user_error("uniphd-data"):
        options.run(options)


def _parser(words: Sequence[str]) -> argparse.ArgumentParser:
    """The parser of the command that is asked for, or of all.

    Only its module is imported: some need PyTorch, and others start processes that do not.
    """
    asked = [name for name in _COMMANDS if name in words[:1]]
    parser = argparse.ArgumentParser(
        prog="uniphd-data", description="Make, check and look at data sets."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name in asked or _COMMANDS:
        command = import_module(f"uniphd.cli.data_commands.{name.replace('-', '_')}")
        command.add_parser(commands)
    return parser


if __name__ == "__main__":
    main()
