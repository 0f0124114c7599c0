"""Scaling-law analysis: laws, fits, intervals, forecasts and plans; xarray in, xarray out, lmfit underneath."""

from gzlib.fitting.compare import compare_laws, information, nested_test
from gzlib.fitting.curves import bench_file
from gzlib.fitting.design import describe_design, judge_design
from gzlib.fitting.fit import fit_law
from gzlib.fitting.floor import vote_floor
from gzlib.fitting.forecast import extrapolate, forecast
from gzlib.fitting.labelled import fit_curves
from gzlib.fitting.laws import LAWS, Law, Parameter, get_law
from gzlib.fitting.noise import recency_weights, run_weights, summarise_replicates
from gzlib.fitting.planner import compare_options, labels_needed, next_run
from gzlib.fitting.posterior import posterior
from gzlib.fitting.predict import predict
from gzlib.fitting.preregister import judge_forecast, load_forecast, store_forecast
from gzlib.fitting.readcurves import read_curves, to_array
from gzlib.fitting.shared import shared_exponent
from gzlib.fitting.surface import compute_frontier, fit_surface, predict_surface
from gzlib.fitting.tables import fit_table, forecast_labels

__all__ = [
    "LAWS",
    "Law",
    "Parameter",
    "bench_file",
    "compare_laws",
    "compare_options",
    "compute_frontier",
    "describe_design",
    "extrapolate",
    "fit_curves",
    "fit_law",
    "fit_surface",
    "fit_table",
    "forecast",
    "forecast_labels",
    "get_law",
    "information",
    "judge_design",
    "judge_forecast",
    "labels_needed",
    "load_forecast",
    "nested_test",
    "next_run",
    "posterior",
    "predict",
    "predict_surface",
    "read_curves",
    "recency_weights",
    "run_weights",
    "shared_exponent",
    "store_forecast",
    "summarise_replicates",
    "to_array",
    "vote_floor",
]
