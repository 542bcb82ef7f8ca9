#!/usr/bin/env bash
# A training on several nodes with Slurm, which starts one task per GPU:
#
#   sbatch --nodes=2 examples/slurm.sh experiment=swint_refhuman data.root=/data/refhuman
#
# Options of sbatch on the command line go before the script and win over those below. The run's folder
# is outputs/<experiment>/slurm-JOB.STEP, on a disk that all nodes share. A job that is requeued, by
# Slurm or by `scontrol requeue JOB`, goes on from its last checkpoint.
#SBATCH --job-name=uniphd
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=4
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=8
#SBATCH --mem=128G
#SBATCH --time=2-00:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=slurm-%j.out
set -euo pipefail

export SRUN_CPUS_PER_TASK="${SLURM_CPUS_PER_TASK:-1}" # srun no longer takes it from sbatch
srun --kill-on-bad-exit=1 uniphd-train \
  trainer=ddp trainer.num_nodes="$SLURM_NNODES" trainer.devices="$SLURM_NTASKS_PER_NODE" \
  data.num_workers="$SRUN_CPUS_PER_TASK" ckpt_path=last "$@"
