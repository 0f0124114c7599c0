import matplotlib
import numpy as np
import pandas as pd
import pytest
import xarray as xr

from gzlib.study import figures

pytestmark = pytest.mark.usefixtures("book_style")


def curves(**dims):
    n = [100, 200, 400, 800]
    shape = {**dims, "n_train": n, "seed": [0, 1, 2]}
    values = np.random.default_rng(0).uniform(0.9, 1.1, [len(v) for v in shape.values()])
    return xr.DataArray(values, coords=shape, dims=list(shape)) * xr.DataArray(n, dims="n_train") ** -0.2


def test_learning_curves_show_every_measured_size_and_the_floor():
    loss = curves(encoder=["a", "b"])
    loss[1, 0] = np.nan  # a missing size is left out, not drawn at nan
    figure = figures.learning_curves(loss, hue="encoder", floor=0.2, x="training galaxies", y="loss")
    axis = figure.axes[0]
    assert [t.get_text() for t in axis.get_xticklabels()] == ["100", "200", "400", "800"]
    assert axis.get_legend_handles_labels()[1] == ["a", "b"]
    assert any(t.get_text() == "perfect predictor" for t in axis.texts)


def test_band_is_drawn_for_each_curve():
    loss = curves(encoder=["a", "b"])
    median = loss.mean("seed")
    band = xr.Dataset({"loss": median, "lower": median * 0.9, "upper": median * 1.1})
    axis = figures.learning_curves(loss, hue="encoder", band=band).axes[0]
    assert len([c for c in axis.collections if isinstance(c, matplotlib.collections.PolyCollection)]) == 2


def test_small_multiples_have_one_panel_for_each_question():
    figure = figures.small_multiples(
        curves(question=list("abcde"), encoder=["x", "y"]), panel="question", hue="encoder"
    )
    assert [a.get_title() for a in figure.axes if a.axison] == list("abcde")


@pytest.mark.parametrize(
    "draw",
    [
        lambda: figures.contact_sheet(np.zeros((5, 8, 8, 3), np.uint8), list("abcde"), columns=3),
        lambda: figures.vote_fractions({"bar": np.array([0.1, 0.9]), "none": np.array([])}),
        lambda: figures.question_bars(pd.Series({"a": 1, "b": 2}), label="n"),
        lambda: figures.loss_against_size(curves(encoder=["a", "b"]), {"a": 1000, "b": 20_000}),
        lambda: figures.intervals(
            pd.DataFrame({"estimate": [1.0], "low": [0.5], "high": [2.0]}, index=["q"]), label="x"
        ),
        lambda: figures.histories({"few": {"a": {"examples": [1, 2], "val_loss": [2.0, 1.0]}}, "many": {}}),
    ],
)
def test_figures_draw_without_warnings(draw, tmp_path):
    figure = draw()
    figure.savefig(tmp_path / "figure.png")
    assert (tmp_path / "figure.png").stat().st_size < 200_000


def test_linear_against_full_takes_negative_and_equal_values():
    table = pd.DataFrame({"linear": [0.2, 0.3], "full": [0.2, 0.1], "start": ["a", "b"], "task": ["t", "u"]})
    axis = figures.linear_against_full(table).axes[0]
    assert {t.get_text() for t in axis.get_legend().get_texts()} == {"a", "b", "t", "u"}
