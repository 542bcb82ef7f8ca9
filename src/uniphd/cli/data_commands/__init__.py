"""The commands of `uniphd-data`: a file each, with `add_parser`."""

import argparse
from typing import TypeAlias

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"
