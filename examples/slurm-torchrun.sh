#!/usr/bin/env bash
# One large run on all GPUs of several nodes: torchrun joins the processes, each step's batch is shared out among them,
# and batch norms see the whole batch. The result is the run that one process would make, to rounding errors.
#
#   GZLIB_STORE=/shared/runs GZLIB_SURVEYS=/shared/surveys sbatch examples/slurm-torchrun.sh \
#     --survey hub:mwalmsley/gz_evo --size 224 --encoder convnext_base --n-train 531072
#SBATCH --job-name=gzlib-one
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=32
#SBATCH --time=24:00:00
#SBATCH --signal=TERM@120
set -euo pipefail
: "${PROCESSES:=${SLURM_GPUS_ON_NODE:-1}}" # one a GPU
first=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
export OMP_NUM_THREADS=$((${SLURM_CPUS_PER_TASK:-1} / PROCESSES > 0 ? ${SLURM_CPUS_PER_TASK:-1} / PROCESSES : 1))
exec srun torchrun --nnodes "$SLURM_JOB_NUM_NODES" --nproc-per-node "$PROCESSES" \
  --rdzv-backend c10d --rdzv-endpoint "$first:29500" --rdzv-id "$SLURM_JOB_ID" \
  -m gzlib pretrain "$@"
