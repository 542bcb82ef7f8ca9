"""`uniphd-convert`: checkpoints to safetensors, without executing pickled code."""

from __future__ import annotations

import argparse
from pathlib import Path

from uniphd.checkpoints.convert import convert
from uniphd.errors import printable
from uniphd.interrupt import exit_at_interrupt
from uniphd.refusals import exit_on_user_error


@exit_at_interrupt("uniphd-convert")
def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(
        prog="uniphd-convert",
        description="Convert the official UniPHD checkpoint to a model folder "
        "(config.json + model.safetensors), a Microsoft ImageNet Swin checkpoint to backbone "
        "weights (backbone.safetensors), or a checkpoint of uniphd-train to a model folder. "
        "Pickled code in the input is never executed.",
    )
    parser.add_argument("source", type=Path, help="checkpoint file (.pth or .ckpt)")
    parser.add_argument("out", type=Path, help="folder to write")
    parser.add_argument(
        "--tokenizer",
        default="roberta-base",
        help="Hugging Face name or local folder of the tokenizer (default: %(default)s)",
    )
    parser.add_argument("--half", action="store_true", help="store a run's weights as float16")
    options = parser.parse_args()
    with exit_on_user_error("uniphd-convert"):
        done = convert(options.source, options.out, options.tokenizer, options.half)
        print(
            f"{done.converted} entries written to {printable(str(done.path))}; "
            f"{len(done.skipped)} aliases, constants or unused heads skipped; none missing, none "
            "left over."
        )


if __name__ == "__main__":
    main()
