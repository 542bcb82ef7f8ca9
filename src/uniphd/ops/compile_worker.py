"""The process that compiles: ``python -m uniphd.ops.compile_worker JSON``.

The JSON holds arguments of ``torch.utils.cpp_extension.load``. Exit status 0 means that the
library was compiled and loads.
"""

from __future__ import annotations

import json
import sys


def main() -> None:
    """Compiles and loads one library; prints what went wrong and exits with status 1."""
    try:
        from torch.utils.cpp_extension import load

        load(is_python_module=False, **json.loads(sys.argv[1]))
    except OSError as error:  # PyTorch's message leaves out what the loader said
        sys.exit(f"the compiled library does not load: {error.__cause__ or error}")
    except Exception as error:
        sys.exit(f"{type(error).__name__}: {error}")


if __name__ == "__main__":
    main()
