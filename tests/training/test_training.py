"""Runs from end to end: pretraining, finetuning, the store and the sweep, on a small simulated survey."""

import json
import os
import re
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
import xarray as xr
from safetensors.torch import load_file
from scipy.optimize import minimize
from survey_inputs import gz2_table, write_evo

from gzlib import paths
from gzlib.config import (
    Conduct,
    FinetuneConfig,
    Objective,
    PretrainConfig,
    Recipe,
    SurveySpec,
    config_dict,
    config_from_dict,
)
from gzlib.data.curation import make_survey, survey_fingerprint
from gzlib.data.survey import open_survey, training_subset
from gzlib.errors import UserError
from gzlib.training import pretraining as pretrain_module
from gzlib.training.pretraining import watched_galaxies
from gzlib.training.probes import PENALTIES, _solvers, fit_probe
from gzlib.training.runs import key_of, rerun, run
from gzlib.training.store import load_runs, read_run, run_key, stored_records
from gzlib.training.sweeps import sweep

pytestmark = pytest.mark.slow

SHORT = Recipe(examples=256, batch_size=32, evaluations=2)
quiet = lambda line: None  # noqa: E731


@pytest.fixture
def survey():
    return SurveySpec("sim:gz2:160", size=32)


@pytest.fixture
def task():
    return SurveySpec("sim:galaxy10:160", size=32)


def pretraining(**changes):
    return PretrainConfig(**{"encoder": "convnext_w4", "n_train": 60, "recipe": SHORT} | changes)


def test_pretraining_records_what_the_book_needs(store, survey):
    record = run(pretraining(), survey, conduct=Conduct(report=quiet))
    metrics = record["metrics"]
    assert metrics["loss"] < 1.05 * metrics["baseline"]
    assert 0 < metrics["floor"]["loss"] < metrics["loss"]
    assert set(metrics["questions"]) == set(metrics["asked"])
    data = open_survey(make_survey(survey))
    tests = int((data.split == "test").sum())
    assert metrics["asked"]["smooth-or-featured-gz2"] == tests
    summed = sum(metrics["questions"][q] * n for q, n in metrics["asked"].items()) / tests
    assert summed == pytest.approx(metrics["loss"], rel=1e-4)
    assert metrics["n_params"] == 43_508
    folder = paths.STORE / record["key"]
    assert sorted(p.name for p in folder.iterdir()) == ["progress.jsonl", "run.json", "weights.safetensors"]
    assert "-" not in json.dumps(record["provenance"]["seconds"])


def test_a_finished_run_is_read_not_made(store, survey, monkeypatch):
    first = run(pretraining(), survey, conduct=Conduct(report=quiet))
    monkeypatch.setattr(pretrain_module, "fit", None)
    assert run(pretraining(), survey, conduct=Conduct(report=quiet)) == first
    assert [r["key"] for r in stored_records("pretrain")] == [first["key"]]
    assert stored_records("finetune") == []


def test_lost_weights_are_made_again_and_the_record_stays(store, survey):
    record = run(pretraining(), survey, conduct=Conduct(report=quiet))
    file = paths.STORE / record["key"] / "run.json"
    weights = file.parent / "weights.safetensors"
    before, trained = file.read_bytes(), weights.read_bytes()
    weights.unlink()
    assert rerun(record["key"]) == record
    assert file.read_bytes() == before
    assert weights.read_bytes() == trained  # bit for bit
    lines = []
    weights.write_bytes(trained[:-1])
    assert rerun(record["key"], conduct=Conduct(report=lines.append)) == record
    assert lines[0] == f"The weights '{weights}' are damaged; they are made again."
    assert weights.read_bytes() == trained
    with pytest.raises(UserError, match="no run 'abc'"):
        rerun("abc")


def test_key_stands_for_the_whole_configuration(survey):
    config = pretraining()
    key = run_key(config, "f00d", None)
    # Another value here means that old runs are not found any more: raise TRAINING_VERSION, or undo the change.
    assert key == "10f14ffd51120b41"
    others = [
        replace(config, seed=1),
        replace(config, encoder="convnext_w5"),
        replace(config, recipe=replace(SHORT, learning_rate=1e-3)),
        replace(config, recipe=replace(SHORT, augment=replace(SHORT.augment, flip=False))),
    ]
    keys = {run_key(other, "f00d", None) for other in others} | {run_key(config, "beef", None)}
    assert len(keys | {key}) == 6
    assert config_from_dict("pretrain", json.loads(json.dumps(config_dict(config)))) == config


def test_known_structure_is_learnt_beside_the_votes(store, survey):
    """The objective's second part: another run, whose model is an encoder with a vote head like any other's."""
    plain = run(pretraining(), survey, conduct=Conduct(report=quiet))
    config = replace(pretraining(), objective=Objective(votes=0.5, structure=1.0))
    both = run(config, survey, conduct=Conduct(report=quiet))
    assert both["key"] != plain["key"] and both["config"]["objective"] == {"votes": 0.5, "structure": 1.0}
    assert both["metrics"]["loss"] != plain["metrics"]["loss"] and np.isfinite(both["metrics"]["loss"])
    states = [load_file(paths.STORE / record["key"] / "weights.safetensors") for record in (plain, both)]
    assert {k: v.shape for k, v in states[0].items()} == {k: v.shape for k, v in states[1].items()}
    structure = pretrain_module.visible_structure(make_survey(survey), np.arange(60))
    assert structure.shape[1] > 10 and np.isfinite(structure).all()
    np.testing.assert_allclose(structure[:60].std(0), 1, rtol=1e-3)


def test_real_galaxies_have_no_known_structure(store, tmp_path):
    real = write_evo(tmp_path / "real", gz2_table(60))
    config = replace(pretraining(n_train=20), objective=Objective(structure=1.0))
    with pytest.raises(UserError, match="real galaxies, whose true properties are unknown"):
        run(config, SurveySpec(str(real), size=32), conduct=Conduct(report=quiet))


def test_nested_training_sets(store, survey):
    data = open_survey(make_survey(survey))
    small, large = training_subset(data, 20, seed=3), training_subset(data, 60, seed=3)
    np.testing.assert_array_equal(small, large[:20])
    with pytest.raises(UserError, match="500"):
        run(pretraining(n_train=500), survey, conduct=Conduct(report=quiet))


def test_votes_are_needed_to_pretrain_and_large_pictures_by_large_strides(store, survey, task):
    with pytest.raises(UserError, match="no votes"):
        run(pretraining(), task, conduct=Conduct(report=quiet))
    with pytest.raises(UserError, match="cannot take images of 16 px; it takes 32 px and more"):
        run(pretraining(n_train=20), replace(survey, source="sim:gz2:40", size=16), conduct=Conduct(report=quiet))


@pytest.mark.parametrize("mode", ["linear", "full"])
def test_finetuning_from_a_pretrained_run(store, survey, task, mode):
    key = run(pretraining(), survey, conduct=Conduct(report=quiet))["key"]
    config = FinetuneConfig("galaxy10", "convnext_w4", 80, weights=key, mode=mode, recipe=SHORT)
    metrics = run(config, task, conduct=Conduct(report=quiet))["metrics"]
    assert 0 < metrics["error"] <= 1
    assert metrics["n_classes"] == 10
    assert metrics["n_test"] == int((open_survey(make_survey(task)).split == "test").sum())


@pytest.mark.parametrize("mode", ["linear", "full"])
def test_finetuning_a_fraction(store, mode):
    rings = SurveySpec("sim:rings:120", size=32)
    config = FinetuneConfig("rings", "convnext_w4", 60, label="ring_fraction", mode=mode, recipe=SHORT)
    metrics = run(config, rings, conduct=Conduct(report=quiet))["metrics"]
    labels = open_survey(make_survey(rings)).ring_fraction.values
    assert metrics["error"] < 2 * labels.std()
    assert metrics["n_classes"] == 0


def test_unknown_label_and_too_few_classes(store, task):
    with pytest.raises(UserError, match="no label column 'colour' .it has"):
        run(FinetuneConfig("t", "convnext_w4", 20, label="colour"), task, conduct=Conduct(report=quiet))
    with pytest.raises(UserError, match="one class only"):
        run(FinetuneConfig("t", "convnext_w4", 1), task, conduct=Conduct(report=quiet))
    with pytest.raises(UserError, match="mode 'half'"):
        FinetuneConfig("t", "convnext_w4", 20, mode="half")


def test_probe_recovers_what_is_linear_and_shrinks_what_is_noise():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(300, 40)).astype(np.float32)
    labels = (features[:, 0] - features[:, 1] > 0).astype(np.int64)
    predict, _ = fit_probe(features[:200], labels[:200], n_classes=2, seed=0)
    assert (predict(features[200:]).argmax(1).numpy() == labels[200:]).mean() > 0.85
    noise = rng.integers(0, 2, 200)
    predict, penalty = fit_probe(features[:200], noise, n_classes=2, seed=0)
    assert penalty >= 0.01
    target = (0.5 + 0.1 * features[:, 2]).astype(np.float32)
    predict, _ = fit_probe(features[:200], target[:200], n_classes=None, seed=0)
    np.testing.assert_allclose(predict(features[200:]), target[200:], atol=0.02)


def test_probe_is_not_led_astray_by_a_feature_that_varies_only_later():
    rng = np.random.default_rng(1)
    features = rng.normal(size=(400, 30)).astype(np.float32)
    features[:, 29] = 0
    features[7, 29] = 1e-3  # all but constant among the labelled galaxies
    target = (0.5 + 0.1 * features[:, 2]).astype(np.float32)
    predict, _ = fit_probe(features[:50], target[:50], n_classes=None, seed=0)
    features[50:, 29] = rng.normal(size=350)
    assert np.abs(predict(features[50:]).numpy() - target[50:]).max() < 0.1


@pytest.mark.parametrize(("galaxies", "width"), [(90, 12), (60, 50), (40, 100)])
def test_probes_of_all_penalties_and_folds_are_those_that_cost_least(galaxies, width):
    """Against SciPy in double precision, also where features outnumber galaxies, by which another way is taken."""
    rng = np.random.default_rng(3)
    features = (5 + rng.normal(size=(galaxies, width)) * rng.uniform(0.5, 2, width)).astype(np.float32)
    labels = np.digitize(features[:, 0] + rng.normal(size=galaxies), [4.0, 6.0])
    kept = np.arange(galaxies) % 4 != np.array([[0], [9]])
    for some, solve in zip(kept, _solvers(features, labels, kept, PENALTIES, 3, None), strict=True):
        target = torch.from_numpy(labels[some])
        for penalty in PENALTIES:
            probe = solve(penalty)
            x = ((torch.from_numpy(features[some]) - probe.mean) / probe.std / width**0.5).double()

            def cost(flat, x=x, target=target, penalty=penalty):
                model = torch.tensor(flat, requires_grad=True)
                weight, bias = model.view(width + 1, 3).split([width, 1])
                total = (
                    torch.nn.functional.cross_entropy(x @ weight + bias, target) + penalty * weight.square().sum() / 2
                )
                total.backward()
                return total.item(), model.grad.numpy()

            found = torch.cat([probe.weight, probe.bias[None]]).flatten().double().numpy()
            options = {"maxiter": 2000, "maxfun": 4000, "ftol": 1e-12, "maxcor": 50}
            least = minimize(cost, found, jac=True, method="L-BFGS-B", options=options).fun
            assert cost(found)[0] <= least * (1 + 2e-6)


def test_a_failed_run_costs_only_itself_and_is_tried_again(store, survey, monkeypatch):
    jobs = [(pretraining(), survey), (pretraining(encoder="convnext_w5"), survey), (pretraining(seed=1), survey)]
    load, lines = pretrain_module.load_encoder, []

    def broken(name, *args, **kwargs):
        if name == "convnext_w5":
            raise RuntimeError("disk on fire")
        return load(name, *args, **kwargs)

    monkeypatch.setattr(pretrain_module, "load_encoder", broken)
    records = sweep(jobs, conduct=Conduct(report=lines.append))
    assert [r["config"]["seed"] for r in records] == [0, 1]
    assert any("disk on fire" in line for line in lines)
    failed = paths.STORE / key_of(*jobs[1]) / "failed.json"
    assert json.loads(failed.read_text())["error"] == "disk on fire"
    monkeypatch.setattr(pretrain_module, "load_encoder", load)
    assert len(sweep(jobs, conduct=Conduct(report=lines.append))) == 3
    assert not failed.exists()


def test_runs_as_labelled_arrays(store, survey):
    jobs = [(pretraining(seed=s, n_train=n), survey) for s, n in ((0, 60), (1, 60), (0, 30))]
    records = sweep(jobs, conduct=Conduct(report=quiet))
    runs = load_runs(records, dims=["n_train", "seed"], values={"loss": "loss", "bar": "questions.bar-gz2"})
    assert runs.n_train.values.tolist() == [30, 60]
    assert np.isnan(runs.loss.sel(n_train=30, seed=1))  # a missing run is a gap, not a dropped row
    assert runs.loss.sel(n_train=60, seed=1) == records[1]["metrics"]["loss"]
    assert runs.bar.notnull().sum() == 3
    with pytest.raises(UserError, match="name the field in which they differ"):
        load_runs(records, dims=["encoder"], values={"loss": "loss"})
    with pytest.raises(UserError, match="no runs"):
        load_runs([], dims=["seed"], values={"loss": "loss"})


def test_device_that_is_not_there():
    from gzlib.training.distributed import choose_device

    assert choose_device("cpu") == torch.device("cpu")
    with pytest.raises(UserError, match="no device 'cuda:99'"):
        choose_device("cuda:99")


def test_read_run_of_nothing(own_store):
    assert read_run("0" * 16) is None


@pytest.mark.parametrize("what", ["images", "survey", "gone"])
def test_a_run_whose_survey_is_changed_meanwhile_is_not_stored(store, survey, monkeypatch, what):
    """Whether other images are put into its files, another survey takes its folder, or it goes."""
    folder = store / "sky"
    shutil.copytree(make_survey(survey), folder)
    named = replace(survey, source=str(folder))
    key, kept, train = key_of(pretraining(), named), store / "kept", pretrain_module.fit
    shutil.copytree(folder, kept)

    def disturbed(*args, **kwargs):
        history = train(*args, **kwargs)
        kwargs["checkpoint"].write_bytes(b"of the images that were changed")
        if what == "images":
            with open(folder / "images.npy", "r+b") as file:
                file.seek(-999, os.SEEK_END)
                file.write(bytes(999))
        else:
            shutil.rmtree(folder)
            if what == "survey":
                shutil.copytree(make_survey(replace(survey, seed=5)), folder)
        return history

    with monkeypatch.context() as patch:
        patch.setattr(pretrain_module, "fit", disturbed)
        with pytest.raises(UserError, match=f"'{re.escape(str(folder))}' has changed since run '{key}' started"):
            run(pretraining(), named, conduct=Conduct(report=quiet))
    assert {file.name for file in (paths.STORE / key).iterdir()} <= {"failed.json", "progress.jsonl"}
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(kept, folder)
    alone = run(pretraining(), survey, conduct=Conduct(report=quiet))["metrics"]
    assert run(pretraining(), named, conduct=Conduct(report=quiet))["metrics"] == alone


def test_a_run_ends_although_the_source_of_its_survey_has_gone(store, tmp_path, monkeypatch):
    """What it trains on is the curated copy."""
    real, train = SurveySpec(str(write_evo(tmp_path / "evo", gz2_table(120))), size=32), pretrain_module.fit
    fingerprint = survey_fingerprint(real)

    def disturbed(*args, **kwargs):
        history = train(*args, **kwargs)
        shutil.rmtree(tmp_path / "evo")
        return history

    monkeypatch.setattr(pretrain_module, "fit", disturbed)
    record = run(pretraining(), real, conduct=Conduct(report=quiet))
    assert record["survey"]["fingerprint"] == fingerprint and read_run(record["key"]) == record


def test_no_more_galaxies_are_watched_than_there_are():
    ids = np.array([f"g{i}" for i in range(40)])
    data, val = xr.Dataset({"id_str": ("galaxy", ids)}), np.arange(5, 35)
    few = watched_galaxies(data, val, 10)
    assert len(few) == 10 and set(few) <= set(val) and (np.diff(few) > 0).all()
    for watch in (0, 30, 2_000):  # the last is the study's, whose surveys are large
        np.testing.assert_array_equal(watched_galaxies(data, val, watch), val)
