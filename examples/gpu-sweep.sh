#!/usr/bin/env bash
# A plan's runs on one GPU. A small network leaves most of a GPU idle, so several runs share it; NVIDIA's
# Multi-Process Service lets them run at the same time instead of in turns.
#
#   examples/gpu-sweep.sh data/plans/study.toml [RUNS AT ONCE]
set -euo pipefail
plan=$1 workers=${2:-$(nproc)}
CUDA_MPS_PIPE_DIRECTORY=$(mktemp -d) CUDA_MPS_LOG_DIRECTORY=$(mktemp -d)
export CUDA_MPS_PIPE_DIRECTORY CUDA_MPS_LOG_DIRECTORY
if command -v nvidia-cuda-mps-control >/dev/null && nvidia-cuda-mps-control -d; then
  trap 'echo quit | nvidia-cuda-mps-control' EXIT
else
  unset CUDA_MPS_PIPE_DIRECTORY CUDA_MPS_LOG_DIRECTORY # the runs take turns then
fi
python -m gzlib sweep "$plan" --device cuda --workers "$workers"
