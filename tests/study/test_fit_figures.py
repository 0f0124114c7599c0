import numpy as np
import pandas as pd
import pytest
import xarray as xr

from gzlib.study import figures as fit_figures

pytestmark = pytest.mark.usefixtures("book_style")


def curves(encoders):
    n = np.array([100, 200, 400, 800.0])
    steps = xr.DataArray(np.arange(1, len(encoders) + 1), dims="encoder", coords={"encoder": encoders})
    noise = xr.DataArray([0.99, 1.0, 1.01], dims="seed", coords={"seed": [0, 1, 2]})
    return xr.DataArray(n, dims="n_train", coords={"n_train": n}) ** -0.2 * steps**-0.1 * noise


@pytest.mark.parametrize("bracketed", [True, False])
def test_surface_with_and_without_a_fit(bracketed):
    loss = curves(["a", "b", "c"])
    cost = lambda N, D: 6 * N * D  # noqa: E731
    plain = fit_figures.surface(loss, {"a": 1e3, "b": 1e4, "c": 1e5}, cost)
    assert not plain.axes[0].collections[0].get_label().startswith("best")
    budgets = np.array([1e6, 1e8])
    frontier = xr.Dataset(
        {
            "N": ("budget", [2e3, 2e4]),
            "D": ("budget", [200.0, 700.0]),
            "loss": ("budget", [0.4, 0.3]),
            "bracketed": ("budget", [bracketed] * 2),
        },
        coords={"budget": budgets},
    )
    figure = fit_figures.surface(
        loss,
        {"a": 1e3, "b": 1e4, "c": 1e5},
        cost,
        fitted=lambda N, D: N**-0.05 * D**-0.2,
        frontier=frontier,
    )
    drawn = figure.axes[0].lines[-1].get_ydata()
    assert np.isfinite(drawn).all() == bracketed
    assert "best split" in figure.axes[1].get_legend_handles_labels()[1]


def test_the_points_of_a_surface_are_seen_on_white_and_with_their_lightness_turned_round():
    loss = curves(["a", "b", "c"])
    figure = fit_figures.surface(loss, {"a": 1e3, "b": 1e4, "c": 1e5}, lambda N, D: 6 * N * D)
    figure.canvas.draw()
    colours = figure.axes[0].collections[-1].get_facecolors()[:, :3]
    linear = np.where(colours <= 0.04045, colours / 12.92, ((colours + 0.055) / 1.055) ** 2.4)
    luminance = linear @ [0.2126, 0.7152, 0.0722]
    assert len(np.unique(colours, axis=0)) == 12 and (1.05 / (luminance + 0.05) >= 2).all()
    # Turned round by CSS: by the weights of its hue-rotate, the darker the point was the lighter it becomes.
    assert (0.92 - 0.84 * colours @ [0.213, 0.715, 0.072] >= 0.3).all()


def test_specification_curve_is_sorted_and_marks_every_choice():
    fits = pd.DataFrame(
        {
            "law": ["p", "q", "p", "q"],
            "noise": ["g", "g", "h", "h"],
            "forecast": [3, 1, 2, np.nan],
            "alpha": [1, 2, 3, np.nan],
        }
    )
    figure = fit_figures.specification_curve(fits, ("law", "noise"), {"forecast": "loss", "alpha": "exponent"})
    points = np.concatenate([np.stack(line.get_data(), axis=1) for line in figure.axes[0].lines])
    assert sorted(points[:, 1]) == list(points[np.argsort(points[:, 0]), 1]) == [1, 2, 3]
    board = figure.axes[-1]
    assert [t.get_text() for t in board.get_yticklabels()] == ["law: p", "law: q", "noise: g", "noise: h"]
    assert sum(len(line.get_xdata()) for line in board.lines) == 3 * 2


def test_forecast_and_outcome_shows_outcomes_only_where_they_are():
    rows = pd.DataFrame(
        {
            "name": ["a", "b"],
            "n_train": [1600.0, 1600.0],
            "forecast": [0.2, 0.21],
            "lower": [0.19, 0.2],
            "upper": [0.21, 0.22],
        }
    ).assign(outcome=[0.2, np.nan])
    pilot = curves(["a"]).sel(encoder="a").mean("seed")
    labels = fit_figures.forecast_and_outcome({"a": pilot}, rows).axes[0].get_legend_handles_labels()[1]
    assert labels.count("outcome") == 1 and labels.count("forecast") == 1 and "a, pilot" in labels
