#!/usr/bin/env bash
# Builds the operators, runs the GPU tests and the benchmark on a machine with a CUDA device.
# Installs nothing and needs no network; PyTorch, nvcc, pytest and rich must be there.
set -euo pipefail
cd "$(dirname "$0")/.."

python=${PYTHON:-python3}
export PYTHONPATH="src:.${PYTHONPATH:+:$PYTHONPATH}"

"$python" - <<'PYTHON'
import torch

if not torch.cuda.is_available():
    raise SystemExit("PyTorch sees no CUDA device")
PYTHON

uniphd_ops() { "$python" -c "from uniphd.cli.ops import main; main()" "$@"; }
uniphd_ops build
uniphd_ops check
# Only tests/gpu's own conftest: the others import what a machine for kernels need not have.
"$python" -m pytest tests/gpu --confcutdir=tests/gpu -W default
"$python" benchmarks/ops_gpu.py --out benchmarks/results "$@"
