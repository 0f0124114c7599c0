#!/usr/bin/env bash
# A plan's runs as a SLURM job array, without Dask: every task is the same sweep over the same store, makes the runs that
# no other has, and ends when none is left. A task that is taken away leaves a checkpoint; requeued, or submitted again,
# it goes on.
#
#   GZLIB_STORE=/shared/runs GZLIB_SURVEYS=/shared/surveys sbatch examples/slurm-array.sh examples/plan.toml
#
# The store must be a file system that all nodes see, with working locks. Without a GPU, leave --gres out.
#SBATCH --job-name=gzlib
#SBATCH --array=0-7
#SBATCH --gres=gpu:1
#SBATCH --cpus-per-task=8
#SBATCH --time=08:00:00
#SBATCH --requeue
#SBATCH --signal=TERM@120
set -euo pipefail
export OMP_NUM_THREADS=${SLURM_CPUS_PER_TASK:-1}
exec srun python -m gzlib sweep "$1" --workers 1 --checkpoint-seconds 300
