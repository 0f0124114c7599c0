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


def test_every_run_is_a_point_in_the_colour_and_marker_of_its_encoder():
    loss = curves(encoder=["resnet_w8", "convnext_w16"])
    axis = figures.learning_curves(loss, hue="encoder").axes[0]
    for name in loss.encoder.values:
        (points,) = [line for line in axis.lines if line.get_label() == name]
        style = figures.encoder_style(name)
        assert len(points.get_xdata()) == 12 and points.get_linestyle() == "None"
        assert (points.get_color(), points.get_marker()) == (style["color"], style["marker"])


PLAN = ["resnet_w4", "resnet_w6", "resnet_w8", "resnet_w11", "resnet_w16", "resnet_w22", "resnet_w28", "resnet_w44",
        "convnext_w16", "convnext_w32", "vit_w64", "vit_w128", "tinynet_e", "tf_efficientnet_lite0"]  # fmt: skip


def test_no_two_encoders_of_the_plan_look_alike_and_each_looks_the_same_everywhere():
    styles = {name: tuple(figures.encoder_style(name).values()) for name in PLAN}
    assert len(set(styles.values())) == len(PLAN)
    few = curves(encoder=["resnet_w28"])
    many = curves(encoder=PLAN)
    for loss in (few, many):
        for figure in (
            figures.learning_curves(loss, hue="encoder"),
            figures.small_multiples(loss.expand_dims(question=["q"]), panel="question", hue="encoder"),
        ):
            lines = figure.axes[0].lines
            (line,) = [line for line in lines if line.get_label() == "resnet_w28"]
            assert (line.get_color(), line.get_marker()) == styles["resnet_w28"]
    for odd in ("mobilenetv3_small_050", "resnet_x", "resnet_w", "convnext_nano", "x"):
        assert set(figures.encoder_style(odd)) == {"color", "marker"}


def test_families_are_never_joined_by_a_line():
    sizes = {name: 10_000 * (i + 1) for i, name in enumerate(PLAN)}
    axis = figures.loss_against_size(curves(encoder=PLAN), sizes).axes[0]
    words = ("resnet", "convnext", "vit", "tinynet", "tf")
    families = [{sizes[n] for n in PLAN if n.startswith(f"{word}_")} for word in words]
    drawn = [set(line.get_xdata()) for line in axis.lines if len(line.get_xdata())]
    assert len(drawn) == 4 * 5 and all(any(xs <= family for family in families) for xs in drawn)


def test_runs_that_ended_early_are_ringed_and_those_at_their_ceiling_are_barred():
    table = pd.DataFrame({"encoder": ["resnet_w4", "resnet_w4", "vit_w64"], "n_train": [500, 1000, 1000]})
    table = table.assign(best=[10.0, 40, 900], epochs=[13.0, 52, 1000], why=["patience", "patience", "ceiling"])
    axis = figures.endings(table.assign(early=[True, False, False])).axes[0]
    rings = [line for line in axis.lines if line.get_markersize() == 11 and len(line.get_xdata())]
    bars = [line for line in axis.lines if line.get_marker() == "_" and len(line.get_xdata())]
    assert len(rings) == 1 and rings[0].get_ydata().tolist() == [10] and bars[0].get_ydata().tolist() == [1000]


def test_families_have_one_order_in_all_legends():
    mixed = ["vit_w64", "tinynet_e", "convnext_w16", "other_w1", "resnet_w4"]
    wanted = ["resnet", "convnext", "vit", "tinynet", "other"]
    legend = figures.loss_against_size(curves(encoder=mixed), {n: 10**4 for n in mixed}).axes[0].get_legend()
    assert [text.get_text() for text in legend.texts] == wanted
    table = pd.DataFrame({"encoder": mixed, "n_train": 500, "best": 10.0, "epochs": 13.0, "why": "patience"})
    axis = figures.endings(table.assign(early=False)).axes[0]
    assert [name.partition("_")[0] for name in axis.get_legend_handles_labels()[1]] == wanted


@pytest.mark.parametrize(
    ("low", "high", "shown"),
    [(0.14, 0.147, ["0.140", "0.145"]), (0.68, 2.15, ["0.8", "1.0", "1.5", "2.0"]), (2.0, 6.5, ["2", "4", "6"])],
)
def test_numbers_of_an_axis_have_the_same_decimals_and_are_more_than_two_where_it_is_long(low, high, shown):
    axis = figures.plt.subplots()[1]
    axis.set_ylim(low, high)
    figures.log_axes(axis, plain_y=True)
    axis.figure.canvas.draw()
    texts = [text.get_text() for text in axis.get_yticklabels()]
    assert [text for text in texts if text in shown] == shown and len({len(text) for text in texts}) == 1


def test_questions_stand_with_their_campaign():
    values = curves(question=["bar-gz2", "odd", "bar-dr5"], encoder=["resnet_w4", "vit_w64"]).mean(["n_train", "seed"])
    values = xr.Dataset({"estimate": values, "low": values - 0.1, "high": values + 0.1})
    of = {"bar-gz2": "gz2", "odd": "gz2", "bar-dr5": "dr5"}
    figure = figures.by_campaign(values, of, label="exponent")
    shown = {axis.get_title(): [t.get_text() for t in axis.get_yticklabels()] for axis in figure.axes}
    assert shown == {"gz2": ["bar", "odd"], "dr5": ["bar"]}
    one = values.estimate.isel(encoder=0, drop=True)
    verdicts = xr.DataArray(["helps", "undecided", "helps by less"], {"question": one["question"]})
    axis = figures.scatter_by_campaign(one, one, verdicts, of, x="x", y="y").axes[0]
    filled = [line for line in axis.lines if line.get_markerfacecolor() != "none" and line.get_marker() != "None"]
    assert sum(len(line.get_xdata()) for line in filled) == 2
    figures.scatter_by_campaign(one[:0], one[:0], verdicts[:0], of)


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
    legends = [artist for artist in axis.get_children() if isinstance(artist, matplotlib.legend.Legend)]
    assert [[t.get_text() for t in legend.get_texts()] for legend in legends] == [["a", "b"], ["t", "u"]]
