"""A sweep on a SLURM cluster: starts workers as batch jobs, hands them a plan's runs, ends when all are made.

    pip install 'gzlib[cluster]'
    python examples/slurm.py examples/plan.toml

Run it on a login node, in a terminal that outlives the connection (tmux). Everything in capitals is yours to set.
Interrupted, it is started again with the same line: runs that are complete are read, the others continue from their
checkpoints. Workers that the cluster takes away do the same.
"""

import subprocess
import sys

from dask_jobqueue import SLURMCluster

from gzlib import paths
from gzlib.config import Conduct
from gzlib.study import preset_jobs
from gzlib.training import read_plan, sweep_on

WORKERS = 8  # runs at a time
PARTITION = "gpu"
GPUS, CORES, MEMORY = 1, 8, "32GB"  # of each worker; without a GPU, 0
WALLTIME = "08:00:00"

# Runs and surveys lie where GZLIB_STORE and GZLIB_SURVEYS point when this starts, else in ./runs and ./surveys. It must
# be a file system that all workers see, with working locks (NFS from version 4, Lustre mounted with flock, GPFS).
ENVIRONMENT = [
    f"export GZLIB_STORE='{paths.STORE}'",
    f"export GZLIB_SURVEYS='{paths.SURVEYS}'",
    f"export OMP_NUM_THREADS={CORES}",
]


def main():
    jobs = read_plan(sys.argv[1], preset=preset_jobs)
    cluster = SLURMCluster(
        queue=PARTITION,
        cores=1,  # what Dask counts: one run at a time in each worker
        processes=1,
        job_cpu=CORES,  # what SLURM counts
        memory=MEMORY,
        worker_extra_args=["--memory-limit", "0"],  # memory-mapped images are not memory in use
        walltime=WALLTIME,
        job_extra_directives=[f"--gres=gpu:{GPUS}"] if GPUS else [],
        job_script_prologue=ENVIRONMENT,
    )
    with cluster:
        # Dask would wait for ever for workers that SLURM refuses.
        trial = ["sbatch", "--test-only"]
        asked = subprocess.run(trial, input=cluster.job_script(), capture_output=True, text=True, check=False)
        if asked.returncode:
            sys.exit(f"SLURM refuses workers like these (PARTITION, GPUS and so on above):\n{asked.stderr.strip()}")
        cluster.scale(jobs=WORKERS)
        sweep_on(cluster.scheduler_address, jobs, conduct=Conduct(checkpoint_seconds=300))


if __name__ == "__main__":
    main()
