"""The command line; the only place that knows Hydra."""

import sys
from pathlib import Path

from uniphd.interrupt import end_silently

# Before the imports of a command, which take seconds; of no other program that imports this.
if sys.argv[0] == "-m" or Path(sys.argv[0]).stem.startswith("uniphd-"):
    end_silently()
