"""What holds for any table, votes, keys and splits, tried with values that hypothesis makes up."""

import csv
import json
from contextlib import suppress
from dataclasses import fields, replace

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from survey_inputs import gz2_votes

from gzlib.config import (
    RECIPE_BOUNDS,
    RECIPE_COUNTS,
    Augment,
    FinetuneConfig,
    PretrainConfig,
    Recipe,
    SurveySpec,
    config_dict,
    config_from_dict,
)
from gzlib.data.checks import VOTE_SLACK, vote_problems, whole_votes
from gzlib.data.schema import load_schema
from gzlib.data.sources import open_source
from gzlib.data.survey import SPLITS, assign_split, seeded_order, training_subset
from gzlib.errors import UserError
from gzlib.fitting import fit_curves, read_curves
from gzlib.training.store import run_key

pytestmark = pytest.mark.slow

GZ2 = load_schema("gz2")
TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=12)
quick = settings(max_examples=12, deadline=None)


# Tables


def table_of(tmp_path_factory, rows, header):
    file = tmp_path_factory.mktemp("table") / "galaxies.csv"
    with open(file, "w", encoding="utf-8", newline="") as out:
        csv.writer(out).writerows([header, *rows])
    return file


def contents(file):
    source = open_source(str(file))
    batches = list(source.batches(32, None))
    ids = [i for batch in batches for i in batch.catalog.id_str]
    return ids, pd.concat([batch.labels for batch in batches]).reset_index(drop=True), source


@quick
@given(st.lists(TEXT.map(str.strip).filter(bool), min_size=1, max_size=20, unique=True), st.data())
def test_a_table_means_the_same_as_csv_and_as_parquet(tmp_path_factory, ids, data):
    ids = [f"g{i}" for i in ids]  # with a letter, as digits alone may be refused for those that are lost
    labels = data.draw(st.lists(st.integers(0, 5), min_size=len(ids), max_size=len(ids)))
    rows = [(i, f"{n}.jpg", label) for n, (i, label) in enumerate(zip(ids, labels, strict=True))]
    file = table_of(tmp_path_factory, rows, ["id_str", "file_loc", "kind"])
    found, values, source = contents(file)
    assert found == ids and source.galaxies == len(ids)
    assert values.kind.astype(int).tolist() == labels
    parquet = file.with_suffix(".parquet")
    pd.DataFrame(rows, columns=["id_str", "file_loc", "kind"]).to_parquet(parquet, index=False)
    again, others, other = contents(parquet)
    assert again == found and others.equals(values) and other.labels == source.labels


CELL = st.one_of(
    TEXT,
    st.integers().map(str),
    st.floats().map(repr),
    st.sampled_from(["", "NA", "nan", "-99", "1e400", "0x1", "١٢", "½"]),
)


@quick
@given(
    st.lists(st.lists(CELL, min_size=4, max_size=4), min_size=1, max_size=6), st.sampled_from(["ra", "split", "label"])
)
def test_any_cells_are_read_or_refused(tmp_path_factory, rows, column):
    file = table_of(tmp_path_factory, rows, ["id_str", "file_loc", column, "smooth-or-featured_smooth"])
    with suppress(UserError):
        ids, values, _ = contents(file)
        assert len(ids) == len(values) == len(rows)


@quick
@given(st.lists(st.lists(CELL, min_size=3, max_size=3), min_size=1, max_size=8))
def test_any_curve_is_read_or_refused(tmp_path_factory, rows):
    file = table_of(tmp_path_factory, rows, ["n_train", "seed", "loss"])
    with suppress(UserError):
        read_curves(file)


# Votes


@quick
@given(st.integers(0, 10**6), st.integers(1, 30))
def test_votes_that_walk_the_tree_are_good_and_rounding_dust_is_gone(seed, n):
    votes = gz2_votes(n, seed)
    assert not vote_problems(votes.astype(float), GZ2, VOTE_SLACK)
    dusty = votes.astype(float)
    for question in GZ2.questions:
        total = dusty[:, question.columns].sum(axis=1, keepdims=True)
        with np.errstate(invalid="ignore"):
            dusty[:, question.columns] = dusty[:, question.columns] / total * total  # blank where nobody was asked
    assert np.array_equal(whole_votes(dusty, GZ2), votes)


@quick
@given(
    st.integers(0, 10**6), st.integers(0, 5), st.integers(0, 29), st.sampled_from([-1.0, 0.5, np.inf, -np.inf, 1e12])
)
def test_one_impossible_vote_is_found_and_no_other_galaxy_is_blamed(seed, row, answer, value):
    votes = gz2_votes(6, seed).astype(float)
    votes[row, answer] = value
    assert set(vote_problems(whole_votes(votes.copy(), GZ2), GZ2, VOTE_SLACK)) <= {row}
    if value in (-1.0, 0.5, np.inf, -np.inf):
        assert row in vote_problems(whole_votes(votes, GZ2), GZ2, VOTE_SLACK)


# Keys


def within(name, least, most):
    if name in RECIPE_COUNTS:
        return st.integers(int(max(least, 1)), int(min(most, 10**6)))
    return st.floats(max(least, 1e-6), min(most, 1e6), exclude_max=True)


RECIPES = st.fixed_dictionaries(
    {},
    optional={
        name: within(name, least, most)
        for names, least, most in RECIPE_BOUNDS
        for name in names.split()
        if name not in ("label_smoothing", "mixup")
    }
    | {"augment": st.builds(Augment, flip=st.booleans(), erase=st.integers(0, 5))},
)


def recipe(values):
    try:
        return Recipe(**values)
    except UserError:
        assume(False)


CONFIGS = st.one_of(
    st.builds(
        PretrainConfig, st.just("resnet_w4"), st.integers(1, 10**6), seed=st.integers(0, 99), recipe=RECIPES.map(recipe)
    ),
    st.builds(
        FinetuneConfig,
        st.just("task"),
        st.just("resnet_w4"),
        st.integers(1, 10**6),
        mode=st.sampled_from(["linear", "full"]),
    ),
)


@quick
@given(CONFIGS)
def test_a_configuration_comes_back_from_its_record_with_its_key(config):
    kind = "pretrain" if isinstance(config, PretrainConfig) else "finetune"
    stored = json.loads(json.dumps(config_dict(config)))
    again = config_from_dict(kind, dict(reversed(stored.items())))
    assert again == config and run_key(again, "f" * 64, None) == run_key(config, "f" * 64, None)


@quick
@given(CONFIGS, st.data())
def test_another_value_of_any_field_is_another_key(config, data):
    name = data.draw(st.sampled_from([f.name for f in fields(config) if f.name in ("n_train", "seed", "encoder")]))
    value = getattr(config, name)
    other = replace(config, **{name: "resnet_w6" if name == "encoder" else value + 1})
    keys = {
        run_key(c, print_, weights)
        for c in (config, other)
        for print_ in ("a", "b")
        for weights in (None, {"tag": "t"})
    }
    assert len(keys) == 8


@pytest.mark.parametrize("size", [32, np.int64(32)])
def test_numbers_of_numpy_make_the_same_survey(size):
    assert config_dict(SurveySpec("sim:10", size=int(size))) == config_dict(SurveySpec("sim:10", size=32))


# Splits


IDS = st.lists(TEXT, min_size=1, max_size=60, unique=True)


@quick
@given(IDS, st.randoms(use_true_random=False), st.sampled_from(["hash", "source", "published"]))
def test_a_split_depends_on_the_galaxy_alone(ids, chance, mode):
    words = ["train", "Test ", "val", "", "validation"]
    published = {i: chance.choice(words) for i in ids}
    sides = {i: assign_split(i, published[i], mode) for i in ids}
    shuffled = chance.sample(ids, len(ids))
    assert {i: assign_split(i, published[i], mode) for i in shuffled} == sides and set(sides.values()) <= set(SPLITS)
    if mode != "hash":
        assert all((sides[i] == "test") == (published[i] == "Test ") for i in ids)


@quick
@given(IDS, IDS, st.integers(0, 5), st.randoms(use_true_random=False))
def test_training_subsets_are_nested_and_survive_new_galaxies_and_another_order(ids, more, seed, chance):
    ids, both = np.array(ids), np.array(chance.sample(list({*ids, *more}), len({*ids, *more})))
    few = [str(i) for i in ids[seeded_order(ids, seed)]]
    many = [str(i) for i in both[seeded_order(both, seed)]]
    assert [i for i in many if i in set(few)] == few

    def chosen(names, n):
        survey = xr.Dataset(
            {}, {"id_str": ("galaxy", names), "split": ("galaxy", ["train"] * len(names))}, {"source": "x"}
        )
        return [str(i) for i in names[training_subset(survey, n, seed=seed)]]

    n = chance.randint(1, len(ids))
    assert chosen(ids, n) == few[:n] and chosen(ids, len(ids)) == few
    with pytest.raises(UserError, match="training galaxies are wanted"):
        chosen(ids, len(ids) + 1)


def test_shares_of_the_split_are_those_that_are_promised():
    sides = pd.Series([assign_split(f"galaxy {i}", "", "hash") for i in range(20_000)]).value_counts(normalize=True)
    assert sides.to_dict() == pytest.approx({"train": 0.7, "val": 0.1, "test": 0.2}, abs=0.01)


# Fits


@settings(max_examples=3, deadline=None)
@given(st.floats(0.1, 0.9), st.floats(0, 10), st.floats(0.5, 50), st.floats(-3, 3), st.integers(0, 99))
def test_a_fit_knows_neither_the_unit_of_the_loss_nor_the_order_of_the_runs(alpha, e, a, log_unit, seed):
    x = 100.0 * 2 ** np.arange(6)
    rng = np.random.default_rng(seed)
    y = (e + a * x**-alpha) * np.exp(0.01 * rng.normal(size=6))
    order, unit = rng.permutation(6), 10**log_unit

    def fit(x, y):
        return fit_curves(xr.DataArray(y, dims="n_train", coords={"n_train": x}), law="power", draws=20)

    one, other = fit(x, y), fit(x[order], (y * unit)[order])
    assert float(other["alpha"]) == pytest.approx(float(one["alpha"]), rel=1e-4, abs=1e-6)
    assert float(other["A"]) == pytest.approx(unit * float(one["A"]), rel=1e-3)
