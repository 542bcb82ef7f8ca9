"""`uniphd-hub`: send a model to the Hugging Face Hub, or write what would be sent."""

from __future__ import annotations

import argparse
from pathlib import Path

from uniphd.checkpoints.pretrained import save_pretrained
from uniphd.checkpoints.push import push
from uniphd.errors import printable
from uniphd.interrupt import exit_at_interrupt
from uniphd.refusals import escape_log_records, exit_on_user_error


@exit_at_interrupt("uniphd-hub")
def main() -> None:
    """Run the command."""
    options = vars(_parse())
    command = options.pop("command")
    escape_log_records()
    with exit_on_user_error("uniphd-hub"):
        if command == "push":
            print(printable(f"Sent: {push(**options)}"))
        else:
            folder = options["folder"]
            names = save_pretrained(**options)
            print(printable(f"{folder}: {', '.join(names)}"))


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="uniphd-hub",
        description="Hand a model on: config.json, model.safetensors, the tokenizer's files and a "
        "model card, and nothing else. Whoever has it loads it with "
        'Predictor("hf://owner/name@revision").',
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    send = commands.add_parser("push", help="send a model to the hub")
    _add_model(send)
    send.add_argument("repository", metavar="OWNER/NAME", help="created when missing")
    send.add_argument("--private", action="store_true", help="for its owner alone")
    send.add_argument("--revision", metavar="BRANCH", help="created when missing (default: main)")
    save = commands.add_parser("save", help="write what would be sent into a folder")
    _add_model(save)
    save.add_argument("folder", type=Path, metavar="DIR", help="created when missing")
    for command in (send, save):
        _add_records(command)
    return parser.parse_args()


def _add_model(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "model", metavar="MODEL", help="checkpoint of uniphd-train, model folder or packaged model"
    )


def _add_records(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--run", type=Path, metavar="DIR", help="folder of the training, with its run.json")
    add("--metrics", type=Path, metavar="FILE", help="metrics.json of uniphd-eval for this model")
    add("--license", metavar="ID", help="licence of the weights, such as cc-by-4.0")


if __name__ == "__main__":
    main()
