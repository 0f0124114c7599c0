"""Keys of committed runs never change: whatever is added to a configuration leaves them as they are."""

import json
from dataclasses import dataclass, field, replace

import numpy as np
import pytest

from gzlib import paths
from gzlib.config import (
    FINETUNING,
    Augment,
    FinetuneConfig,
    Objective,
    PretrainConfig,
    Recipe,
    SurveySpec,
    config_dict,
    config_from_dict,
)
from gzlib.data import survey_fingerprint
from gzlib.errors import UserError
from gzlib.study import preset_jobs
from gzlib.training import key_of, read_run, run_key
from gzlib.training.store import write_run

RECORDS = {file.parent.name: json.loads(file.read_text()) for file in (paths.ROOT / "data" / "runs").glob("*/run.json")}


def test_every_committed_key_follows_from_its_record():
    assert RECORDS
    for key, record in RECORDS.items():
        config = config_from_dict(record["kind"], record["config"])
        assert config_dict(config) == record["config"]
        assert run_key(config, record["survey"]["fingerprint"], record["weights"]) == record["key"] == key


def of_forecasts() -> set[str]:
    """Runs that stored forecasts were made from or are about: they stay, whatever becomes of the sky."""
    forecasts = [json.loads(file.read_text()) for file in (paths.ROOT / "data" / "forecasts").glob("*.json")]
    return {key for content in forecasts for key in json.loads(content["data_key"])} | {
        run["key"] for content in forecasts for run in content["expected"]
    }


def test_every_committed_survey_is_what_this_code_would_make():
    kept = of_forecasts()
    surveys = {json.dumps(record["survey"], sort_keys=True) for key, record in RECORDS.items() if key not in kept}
    for survey in map(json.loads, surveys):
        if survey["source"].startswith("data/surveys/"):  # what chapter 06 writes itself
            continue
        spec = {name: value for name, value in survey.items() if name not in ("fingerprint", "parts")}
        assert survey_fingerprint(SurveySpec(**spec)) == survey["fingerprint"], survey["source"]


def test_the_committed_study_is_complete():
    assert {key_of(*job) for job in preset_jobs("laptop")} <= RECORDS.keys()


def test_a_field_added_later_enters_the_key_only_where_it_is_set():
    """Without a word from its author: a plain default, and one that is made for each instance."""

    @dataclass(frozen=True)
    class Grown(Recipe):
        momentum: float = 0.9
        teacher: Augment = field(default_factory=Augment)

    config = PretrainConfig("resnet_w4", 10, recipe=Recipe())
    recipes = [Grown(), Grown(momentum=0.5), Grown(teacher=Augment(flip=False))]
    keys = [run_key(config, "f00d", None)] + [run_key(replace(config, recipe=r), "f00d", None) for r in recipes]
    assert keys[0] == keys[1] and len(set(keys)) == 3


def test_equal_configurations_have_equal_keys():
    config = PretrainConfig("resnet_w4", 10, recipe=Recipe(clip=1.0, augment=Augment(zoom=(1.0, 2.0))))
    for same in (
        replace(config, recipe=Recipe(clip=1, augment=Augment(zoom=(1, np.float32(2))))),
        replace(config, n_train=np.int64(10), objective=Objective(votes=1)),
    ):
        assert same == config and run_key(same, "f00d", None) == run_key(config, "f00d", None)


def test_a_record_gives_its_key_again_however_many_digits_a_setting_has(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "STORE", tmp_path)
    config = PretrainConfig("resnet_w4", 10, recipe=Recipe(learning_rate=0.00123456789))
    key = run_key(config, "f00d", None)
    record = next(record for record in RECORDS.values() if record["kind"] == "pretrain")
    write_run(record | {"key": key, "config": config_dict(config), "metrics": {"loss": 1 / 3}})
    again = read_run(key)
    assert again["metrics"]["loss"] == 0.3333333
    assert run_key(config_from_dict("pretrain", again["config"]), "f00d", None) == key


def test_all_that_shapes_a_run_enters_its_key():
    config, start = PretrainConfig("resnet_w4", 10), {"tag": "a", "sha256": "0"}
    probe = FinetuneConfig("rings", "resnet_w4", 10)
    keys = [
        run_key(config, "f00d", None),
        run_key(config, "beef", None),
        run_key(config, "f00d", start),
        run_key(config, "f00d", start | {"sha256": "1"}),
        run_key(replace(config, objective=Objective(structure=0.5)), "f00d", None),
        run_key(
            replace(config, recipe=replace(config.recipe, augment=replace(config.recipe.augment, blur=1.0))),
            "f00d",
            None,
        ),
        run_key(probe, "f00d", None),
        run_key(replace(probe, recipe=replace(FINETUNING, accumulate=2)), "f00d", None),
    ]
    assert len(set(keys)) == len(keys)


def test_a_record_of_a_newer_version_is_told():
    newer = config_dict(PretrainConfig("resnet_w4", 10)) | {"curriculum": "hard first"}
    with pytest.raises(UserError, match="unknown key 'curriculum'"):
        config_from_dict("pretrain", newer)


def test_nonsense_is_refused():
    for values in ({"structure": -1}, {"structure": float("nan")}, {"votes": 0}):
        with pytest.raises(UserError, match="Objective"):
            Objective(**values)
