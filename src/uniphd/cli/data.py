"""`uniphd-data`: make, check and look at data sets."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from uniphd.cli.data_commands import check, from_coco, prompts, show, synth
from uniphd.interrupt import exit_at_interrupt
from uniphd.refusals import exit_on_user_error

_COMMANDS = (synth, from_coco, check, show, prompts)


@exit_at_interrupt("uniphd-data")
def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command.

    Args:
        arguments: the command line without the program's name; None is that of the process.
    """
    options = _parser().parse_args(arguments)
    with exit_on_user_error("uniphd-data"):
        options.run(options)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="uniphd-data", description="Make, check and look at data sets."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for command in _COMMANDS:
        command.add_parser(commands)
    return parser


if __name__ == "__main__":
    main()
