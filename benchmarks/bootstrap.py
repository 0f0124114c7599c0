"""The vectorised bootstrap against one lmfit fit a draw."""

from gzlib.fitting.speed import bench_bootstrap


def rows():
    return bench_bootstrap()
