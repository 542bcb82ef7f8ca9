#!/usr/bin/env bash
# A training on one or several nodes with torchrun. Start it on every node, with the same arguments:
#
#   RUN=swint-1 HEAD=node1 NODES=2 PER_NODE=4 examples/torchrun.sh \
#     experiment=swint_refhuman data.root=/data/refhuman
#
# RUN       name of the run: its folder is outputs/<experiment>/RUN, on a disk that all nodes share
# HEAD      name or address of one of the nodes (default: localhost, for a single node)
# PORT      free there (default: 29500)
# NODES     number of nodes (default: 1)
# PER_NODE  processes per node, one per GPU (default: 1)
#
# Started again with the same arguments, it goes on from the run's last checkpoint.
set -euo pipefail

exec torchrun \
  --nnodes="${NODES:-1}" --nproc-per-node="${PER_NODE:-1}" \
  --rdzv-backend=c10d --rdzv-endpoint="${HEAD:-localhost}:${PORT:-29500}" \
  --rdzv-id="${RUN:?give the run a name: RUN=NAME $0 ...}" \
  -m uniphd.cli.train \
  trainer=ddp trainer.num_nodes="${NODES:-1}" trainer.devices="${PER_NODE:-1}" \
  ckpt_path=last "$@"
