#!/usr/bin/env bash
# A training on several nodes with Slurm, which starts one task per GPU:
#
#   sbatch --nodes=2 examples/slurm.sh experiment=swint_refhuman data.root=/data/refhuman
#
# Options of sbatch on the command line go before the script and win over those below. The run's folder
# is outputs/<experiment>/slurm-JOB.STEP, on a disk that all nodes share. Five minutes before its time is
# over, the job saves its state and goes back to the queue. A requeued job, also one that Slurm
# pre-empted or that `scontrol requeue JOB` stopped, goes on from its last checkpoint.
#SBATCH --job-name=uniphd
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=4
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=8
#SBATCH --mem=128G
#SBATCH --time=2-00:00:00
#SBATCH --requeue
#SBATCH --signal=USR1@300
#SBATCH --open-mode=append
#SBATCH --output=slurm-%j.out
set -euo pipefail

export SRUN_CPUS_PER_TASK="${SLURM_CPUS_PER_TASK:-1}" # srun no longer takes it from sbatch
status=0
srun --kill-on-bad-exit=1 uniphd-train \
  trainer=ddp trainer.num_nodes="$SLURM_NNODES" trainer.devices="$SLURM_NTASKS_PER_NODE" \
  data.num_workers="$SRUN_CPUS_PER_TASK" ckpt_path=last "$@" || status=$?
# 138: USR1 has stopped the training; 143: SIGTERM, with which srun also ends the other tasks once the
# first one has ended. (`scancel` ends this script, too, before it gets here.)
case $status in 138 | 143) scontrol requeue "$SLURM_JOB_ID" ;; esac
exit "$status"
