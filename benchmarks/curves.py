"""Forecasts of published learning curves: accuracy and honesty of the bands, on any file of the benchmark's format."""

from gzlib.errors import UserError
from gzlib.fitting.curves import bench_file


def rows(csv):
    if csv is None:
        raise UserError("Name the file with learning curves: python -m gzlib bench curves --csv FILE.")
    return bench_file(csv)
