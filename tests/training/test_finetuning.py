"""What a task's labels are taken for, and that predictions come out in the labels' own terms."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import xarray as xr
from fault_inputs import rows, saved, vote_rows, write_table
from PIL import Image
from survey_inputs import gz2_votes, jpeg

from gzlib import paths
from gzlib.cli import main
from gzlib.config import Conduct, FinetuneConfig, PretrainConfig, Recipe, SurveySpec
from gzlib.data.curation import curate, make_survey, training_galaxies
from gzlib.data.schema import load_schema
from gzlib.data.survey import label_values, open_survey
from gzlib.errors import UserError
from gzlib.training.evaluation import labelled_rows
from gzlib.training.finetuning import task_target
from gzlib.training.runs import run
from gzlib.training.saved import HeadShape
from gzlib.training.store import per_galaxy

pytestmark = pytest.mark.slow

N = 90
SHORT = Recipe(examples=512, batch_size=32, evaluations=2, learning_rate=3e-3)
NAMES = np.array(["E", "Irr", "S"])
quiet = lambda line: None  # noqa: E731


def bright_images():
    """Noise around a level that grows with the galaxy's number, and that level (0 to 1)."""
    level = np.arange(N) * 37 % N / N
    rng = np.random.default_rng(0)
    pixels = np.clip(rng.normal(30 + 180 * level[:, None, None, None], 10, (N, 32, 32, 3)), 0, 255).astype(np.uint8)
    images = []
    for one in pixels:
        images.append(saved(Image.fromarray(one), "PNG"))
    return images, level


@pytest.fixture
def source(tmp_path):
    """A catalogue whose labels follow from its images: text, partly blank, fractions written as classes, magnitudes."""
    images, level = bright_images()
    third = np.minimum(level * 3, 2).astype(int)
    columns = {
        "id_str": [f"J{i}" for i in range(N)],
        "morph": NAMES[third].tolist(),
        "bright": [float(v > 0.5) for v in level],
        "partly": [None if i % 5 == 0 else int(v > 0.5) for i, v in enumerate(level)],
        "mag": (-2.5 * level - 20).tolist(),
        "mjd": (58_000 + 10 * level).tolist(),
        "codes": (100 * (third + 1)).tolist(),
        "unknown": [-99.0 if i % 7 == 0 else float(v) for i, v in enumerate(level)],
        "flag": [-1 if i % 7 == 0 else int(v > 0.5) for i, v in enumerate(level)],
        "same": [1.5] * N,
        "flux": ((5 - level) * 1e-29).tolist(),
        "mass": ((5 - level) * 1e30).tolist(),
    }
    return write_table(tmp_path / "in", "embedded", columns, images)


@pytest.fixture(autouse=True)
def telling_features(monkeypatch):
    """Features in which brightness can be seen, as a small untrained encoder shows it badly."""

    def features(encoder, weights, folder, seed, device):
        images = open_survey(folder).images.values
        return images.reshape(len(images), 4, 8, 4, 8, 3).mean((2, 4, 5)).reshape(len(images), 16).astype(np.float32)

    monkeypatch.setattr("gzlib.training.finetuning.survey_features", features)


def tuned(source, label, mode="linear", **changes):
    config = FinetuneConfig("t", "resnet_w4", 40, label=label, mode=mode, recipe=SHORT)
    return run(replace(config, **changes), SurveySpec(str(source), size=32), conduct=Conduct(report=quiet))


@pytest.mark.parametrize("mode", ["linear", "full"])
def test_text_is_classes_and_their_names_stay(store, source, mode):
    metrics = tuned(source, "morph", mode)["metrics"]
    assert metrics["n_classes"] == 3 and metrics["classes"] == ["E", "Irr", "S"]
    assert metrics["error"] < 0.6 and metrics["n_test"] == (open_survey(survey_of(source)).split == "test").sum()


def survey_of(source):
    return make_survey(SurveySpec(str(source), size=32), progress=False)


@pytest.mark.parametrize("mode", ["linear", "full"])
def test_classes_written_as_fractions_are_classes(store, source, mode):
    metrics = tuned(source, "bright", mode)["metrics"]
    assert metrics["n_classes"] == 2 and "classes" not in metrics and metrics["error"] < 0.5


@pytest.mark.parametrize("mode", ["linear", "full"])
def test_unlabelled_galaxies_are_neither_trained_on_nor_tested(store, source, mode):
    survey = open_survey(survey_of(source))
    unlabelled = np.isnan(survey.partly.values)
    target = task_target(survey, "partly")
    assert unlabelled.sum() == N // 5 and "18 of 90 galaxies unlabelled" in target.words
    metrics = tuned(source, "partly", mode)["metrics"]
    assert metrics["n_test"] == ((survey.split.values == "test") & ~unlabelled).sum() and metrics["n_classes"] == 2
    spec = SurveySpec(str(source), size=32)
    assert training_galaxies(spec, "partly") == ((survey.split.values == "train") & ~unlabelled).sum()
    assert training_galaxies(spec) > training_galaxies(spec, "partly")
    with pytest.raises(UserError, match="with a label"):
        tuned(source, "partly", n_train=training_galaxies(spec))


@pytest.mark.parametrize("mode", ["linear", "full"])
@pytest.mark.parametrize(("label", "spread"), [("mag", 0.72), ("mjd", 2.9), ("flux", 2.9e-30), ("mass", 2.9e29)])
def test_numbers_on_any_scale_are_predicted_in_their_units(store, source, mode, label, spread):
    """Those of physics, too: squares that float32 does not hold, floats that are whole since they are large."""
    record = tuned(source, label, mode)
    metrics = record["metrics"]
    assert metrics["n_classes"] == 0 and 0 < metrics["error"] < 1.3 * spread
    assert metrics["loss"] == pytest.approx(metrics["error"] ** 2, rel=1e-3, abs=0)
    assert per_galaxy(record).mean() == pytest.approx(metrics["loss"], rel=2e-3, abs=0)
    if mode == "linear":
        assert metrics["error"] < 0.6 * spread


def test_the_error_scales_with_the_unit(store, source):
    """A magnitude and the same number in thousandths, through both kinds of training."""
    survey = open_survey(survey_of(source))
    for mode in ("linear", "full"):
        errors = [tuned(source, "mag", mode)["metrics"]["error"], tuned(source, "mjd", mode)["metrics"]["error"]]
        assert errors[1] / errors[0] == pytest.approx(float(survey.mjd.std() / survey.mag.std()), rel=0.05)


def test_whole_numbers_that_are_no_count_from_0_are_classes_with_names(store, source):
    metrics = tuned(source, "codes")["metrics"]
    assert metrics["n_classes"] == 3 and metrics["classes"] == ["100", "200", "300"] and metrics["error"] < 0.5


@pytest.mark.parametrize(
    ("label", "says"),
    [("unknown", "-99, which looks like a placeholder"), ("flag", "-1, which looks like"), ("same", "one value only")],
)
def test_placeholders_are_no_labels(store, source, label, says):
    with pytest.raises(UserError, match=says):
        tuned(source, label)


def test_a_fraction_of_the_votes_is_a_label(store, tmp_path):
    votes = gz2_votes(N)
    columns = {"id_str": [f"J{i}" for i in range(N)]}
    columns |= {col: votes[:, i].tolist() for i, col in enumerate(load_schema("gz2").label_cols)}
    columns |= {"summary": ["smooth" if v > 10 else "featured" for v in votes[:, 0]]}
    source = write_table(tmp_path / "votes", "csv", columns, [jpeg(i, side=32) for i in range(N)])
    survey = open_survey(survey_of(source))
    target = task_target(survey, "has-spiral-arms-gz2_yes_fraction")
    schema = load_schema("gz2")
    question = schema["has-spiral-arms-gz2"]
    total = votes[:, question.columns].sum(axis=1)
    np.testing.assert_array_equal(target.known, total > 0)
    expected = votes[total > 0, schema.label_cols.index("has-spiral-arms-gz2_yes")] / total[total > 0]
    np.testing.assert_allclose(target.values[target.known], expected, rtol=1e-6)
    metrics = tuned(source, "smooth-or-featured-gz2_smooth_fraction")["metrics"]
    assert metrics["n_classes"] == 0 and metrics["error"] < 0.6
    assert tuned(source, "summary")["metrics"]["classes"] == ["featured", "smooth"]
    with pytest.raises(UserError, match="has no label column 'smooth_fraction'.*gz2_smooth_fraction"):
        tuned(source, "smooth_fraction")


def test_names_of_numbered_classes_stay(store, tmp_path):
    columns = {"id_str": [f"J{i}" for i in range(N)], "label": [i % 3 for i in range(N)]}
    columns["label_name"] = ["" if i == 4 else NAMES[i % 3] for i in range(N)]
    source = write_table(tmp_path / "named", "csv", columns, [jpeg(i, side=32) for i in range(N)])
    assert tuned(source, "label")["metrics"]["classes"] == ["E", "Irr", "S"]


@pytest.mark.parametrize("kind", ["finetune", "pretrain"])
def test_without_test_galaxies_nothing_is_trained(store, tmp_path, kind):
    columns = vote_rows(split=["train"] * 12) | {"label": [0, 1] * 6}
    survey = SurveySpec(str(write_table(tmp_path / "in", "csv", columns)), size=16, split="source")
    if kind == "finetune":
        config = FinetuneConfig("t", "resnet_w4", 4, recipe=SHORT)
    else:
        config = PretrainConfig("resnet_w4", 4, recipe=SHORT)
    with pytest.raises(UserError, match="has no.* test galaxies"):
        run(config, survey, conduct=Conduct(report=quiet))
    assert not list(paths.STORE.glob("*/run.json"))


def test_without_labelled_test_galaxies_nothing_is_trained(store, tmp_path):
    split = ["train"] * 8 + ["test"] * 4
    columns = rows(label=[0, 1] * 4 + [None] * 4, split=split)
    survey = SurveySpec(str(write_table(tmp_path / "in", "csv", columns)), size=16, split="source")
    with pytest.raises(UserError, match="no test galaxies with a label 'label'"):
        run(FinetuneConfig("t", "resnet_w4", 4, recipe=SHORT), survey, conduct=Conduct(report=quiet))


def test_a_changed_survey_is_not_trained_on(store, source):
    folder = curate(str(source), out=store / "survey", size=32, progress=False)
    images = np.load(folder / "images.npy", mmap_mode="r+")
    images[:] = 0
    images.flush()
    with pytest.raises(UserError, match="damaged"):
        tuned(folder, "morph")


def test_the_command_line_says_what_a_label_is(store, source, capsys):
    command = ["finetune", "--survey", str(source), "--size", "32", "--encoder", "resnet_w4", "--weights", "random"]
    assert main([*command, "--label", "partly", "--set", "recipe.examples=64"]) == 0
    captured = capsys.readouterr()
    assert "partly: 2 classes (0, 1); 18 of 90 galaxies unlabelled, not trained on" in captured.err
    assert "test error" in captured.out
    assert main([*command, "--label", "mag"]) == 0
    captured = capsys.readouterr()
    assert "root mean square" in captured.out and "numbers from" in captured.err


SPLIT = ["train"] * 8 + ["test"] * 4
LACKING = {
    "a-class-that-is-only-tested": (
        {"label": [0, 1] * 4 + [2] * 4},
        4,
        "no galaxy of the training split is of class 2",
    ),
    "a-named-class-that-is-only-tested": ({"label": ["E", "S"] * 4 + ["Irr"] * 4}, 4, "is of class Irr"),
    "fewer-labels-than-classes": ({"label": ["a", "b", "c", "d"] * 3}, 3, "3 labels are fewer than the 4 classes"),
    "one-class": ({"label": ["E"] * 12, "morph": ["E", "S"] * 6}, 4, "the same text everywhere"),
    "more-labels-than-there-are": ({"label": [0, 1] * 6}, 9, "9 training galaxies are wanted, but .* has 7"),
    "no-training-galaxies": ({"label": [0, 1] * 6, "split": ["test"] * 12}, 4, "4.*0|no.*train"),
    "infinite-numbers": ({"label": [0.25 * i for i in range(11)] + [float("inf")]}, 4, "infinite numbers"),
}


@pytest.mark.parametrize("name", LACKING)
def test_labels_that_cannot_be_learned_are_refused_before_training(store, tmp_path, name):
    columns, n_train, says = LACKING[name]
    survey = SurveySpec(str(write_table(tmp_path / "in", "csv", rows(split=SPLIT) | columns)), size=16, split="source")
    with pytest.raises(UserError, match=says) as error:
        run(FinetuneConfig("t", "resnet_w4", n_train, recipe=SHORT), survey, conduct=Conduct(report=quiet))
    assert "\n" not in str(error.value) and not list(paths.STORE.glob("*/run.json"))


WHY = {
    "one-text": ({"arm": ["two"] * 12}, "arm", "Column 'arm' of .* is not a label: the same text everywhere"),
    "each-its-own": (
        {"arm": [f"text {i}" for i in range(12)]},
        "arm",
        "is not a label: text that differs in nearly every",
    ),
    "commas": ({"arm": [f"{i},5" for i in range(12)]}, "arm", "is not a label: numbers with commas"),
    "mistyped": (
        {"morphology": ["E", "S"] * 6},
        "morpholgy",
        "has no label column 'morpholgy' .did you mean 'morphology'",
    ),
    "unlike-any": ({"arm": ["a", "b"] * 6}, "zzz", "has no label column 'zzz' .it has label, arm"),
    "labels-in-the-test-split-alone": (
        {"arm": [None] * 8 + ["a", "b"] * 2},
        "arm",
        "no training galaxies with a label",
    ),
}


@pytest.mark.fault("labels that a column does not hold", "refused in one sentence")
@pytest.mark.parametrize("name", WHY)
def test_what_is_no_label_says_why(store, tmp_path, name):
    columns, label, says = WHY[name]
    survey = SurveySpec(str(write_table(tmp_path / "in", "csv", rows(split=SPLIT) | columns)), size=16, split="source")
    with pytest.raises(UserError, match=says) as error:
        run(FinetuneConfig("t", "resnet_w4", 4, label=label, recipe=SHORT), survey, conduct=Conduct(report=quiet))
    assert "\n" not in str(error.value)


def test_votes_that_a_survey_does_not_have_are_refused_with_the_cure():
    data = xr.Dataset({"bar_yes": ("galaxy", np.arange(9))}, attrs={"source": "x", "schema": ""})
    for ask in (task_target, label_values):
        with pytest.raises(UserError, match="The survey of 'x' has no votes: .* Curate it with --schema and a JSON"):
            ask(data, "votes")


@pytest.mark.fault("labels: numbers that float32 cannot hold or tell apart", "refused in one sentence")
@pytest.mark.parametrize("start", [(1e44, 1e43), (1e-44, 1e-45), (2_459_000.5, 1e-3)])
def test_numbers_beyond_float32_are_refused(start):
    values = start[0] + start[1] * np.linspace(0, 1, 30) ** 2
    data = xr.Dataset({"label": ("galaxy", values)}, attrs={"source": "x", "schema": ""})
    with pytest.raises(UserError, match="Label column 'label' holds numbers from .* which float32 cannot hold"):
        task_target(data, "label")


@pytest.mark.fault("labels: class numbers of any size", "read")
@pytest.mark.parametrize(
    "codes", [(1_000_000, 2_000_000), (2**53 + 1, 2**53 + 2), (10**17 + 1, 10**17 + 3), (0, 1_234_567)]
)
def test_class_numbers_stay_exact(codes):
    """Where a model is made and where it is scored."""
    values = np.array(codes * 3, np.int64)
    data = xr.Dataset({"label": ("galaxy", values)}, attrs={"source": "x", "schema": ""})
    target = task_target(data, "label")
    assert target.codes == codes and target.values.tolist() == [0, 1] * 3
    head = HeadShape(kind="classes", label="label", classes=[target.name(i) for i in range(2)], codes=list(codes))
    known, found = labelled_rows(SimpleNamespace(config=SimpleNamespace(head=head)), data, None)
    assert known.all() and found.tolist() == [0, 1] * 3


def test_a_model_of_numbers_is_not_scored_on_infinite_ones():
    data = xr.Dataset({"mag": ("galaxy", np.array([1.5, np.inf]))}, attrs={"source": "x", "schema": ""})
    head = SimpleNamespace(kind="number", label="mag")
    with pytest.raises(UserError, match="'mag' holds infinite numbers"):
        labelled_rows(SimpleNamespace(config=SimpleNamespace(head=head)), data, None)


def test_classes_that_differ_in_capital_letters_are_told():
    data = xr.Dataset(
        {"label": ("galaxy", np.array(["Spiral", "spiral", "E\nS"]))}, attrs={"source": "x", "schema": ""}
    )
    words = task_target(data, "label").words
    assert "3 classes (E S, Spiral, spiral), some of which differ in capital letters alone" in words
