import json
from contextlib import suppress

import pytest

from gzlib import paths
from gzlib.config import config_dict
from gzlib.errors import UserError
from gzlib.fitting import planner
from gzlib.identity import content_hash
from gzlib.study import forecasts, tables
from gzlib.training import store as run_store

CHOICE = {"preset": "smoke", "source": "sim:2000", "encoders": ["resnet_w4"], "seeds": [0, 1]}
ASKED = CHOICE | {"pilot": [50, 100, 200], "targets": [400]}


@pytest.fixture
def store(tmp_path, monkeypatch):
    """An empty project; training is stubbed by a power law, so that no picture is drawn."""
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    monkeypatch.setattr(paths, "STORE", tmp_path / "runs")
    monkeypatch.setattr(paths, "BOOK_RUNS", tmp_path / "runs")

    def train(jobs):
        records = []
        for config, survey in jobs:
            loss = 2 * (config.n_train / 100) ** -0.3 * (1 + 0.002 * config.seed)
            record = {
                "key": forecasts.key_of(config, survey),
                "kind": "pretrain",
                "config": config_dict(config),
                "metrics": {"loss": loss},
                "survey": config_dict(survey) | {"fingerprint": "f00d", "parts": []},
                "weights": None,
                "test": None,
                "provenance": {"seconds": 1.0, "device": "none"},
            }
            run_store.write_run(record)
            records.append(record)
        return records

    monkeypatch.setattr(forecasts, "sweep", train)
    return tmp_path


def test_forecast_is_stored_before_its_outcome_and_judged_after(store):
    digest = forecasts.register_forecast("ahead", **ASKED)
    file = store / "data" / "forecasts" / "ahead.json"
    assert json.loads(file.read_text(encoding="utf-8"))["sha256"] == digest
    content, rows = forecasts.judge_registered(file)
    assert rows[0]["outcome"] is None and rows[0]["inside"] is None
    assert forecasts.pilot_losses(content).n_train.values.tolist() == [50, 100, 200]
    forecasts.run_outcome("ahead")
    _, rows = forecasts.judge_registered(file)
    assert rows[0]["outcome"] == pytest.approx(2 * 4**-0.3 * 1.001, rel=1e-4)
    assert rows[0]["inside"] is True and abs(rows[0]["log_error"]) < 0.05  # three sizes only


def test_a_size_counts_only_once_all_its_seeds_have_run(store):
    forecasts.register_forecast("ahead", **ASKED)
    forecasts.sweep(forecasts._jobs(CHOICE, [400])[:1])
    _, rows = forecasts.judge_registered(store / "data" / "forecasts" / "ahead.json")
    assert rows[0]["outcome"] is None


def test_nothing_is_forecast_that_is_known_or_stored_already(store):
    forecasts.register_forecast("ahead", **ASKED)
    with pytest.raises(UserError, match=r"ahead\.json exists"):
        forecasts.register_forecast("ahead", **ASKED)
    forecasts.run_outcome("ahead")
    with pytest.raises(UserError, match="its loss is known"):
        forecasts.register_forecast("again", **ASKED)
    with pytest.raises(UserError, match="looks ahead: the target 100 is not above the pilot's 200"):
        forecasts.register_forecast("back", **ASKED | {"targets": [100]})


def test_a_failed_pilot_run_stops_the_forecast(store, monkeypatch):
    train = forecasts.sweep
    monkeypatch.setattr(forecasts, "sweep", lambda jobs: train(jobs)[1:])
    with pytest.raises(UserError, match="1 of 6 pilot runs failed"):
        forecasts.register_forecast("ahead", **ASKED)
    assert not (store / "data" / "forecasts").exists()


def test_an_outcome_of_another_sky_is_not_made(store, monkeypatch):
    forecasts.register_forecast("ahead", **ASKED)
    monkeypatch.setattr(forecasts, "key_of", lambda config, survey: f"other{config.seed}")
    with pytest.raises(UserError, match="can't be made any longer"):
        forecasts.run_outcome("ahead")


def rewritten(file, path, value):
    """A stored forecast with another value somewhere, and the checksum that fits it."""
    content = json.loads(file.read_text(encoding="utf-8"))
    *outer, last = path.split(".")
    place = content
    for name in outer:
        place = place[int(name) if isinstance(place, list) else name]
    if value is ...:
        del place[last]
    else:
        place[int(last) if isinstance(place, list) else last] = value
    digest = content.pop("sha256", None)
    with suppress(ValueError):  # NaN has no hash
        digest = content_hash(content) if path != "sha256" else digest
    content["sha256"] = digest
    file.write_text(json.dumps(content), encoding="utf-8")


@pytest.mark.parametrize(
    ("path", "value"),
    [
        *((name, ...) for name in ("format", "question", "dims", "rows", "level", "kind", "x", "study", "expected")),
        *((name, 5) for name in ("format", "question", "dims", "rows", "level", "kind", "x", "study", "expected")),
        *((name, None) for name in ("rows.0", "rows.0.encoder", "study.seeds", "expected.0", "data_key")),
        *((f"rows.0.{name}", "much") for name in ("median", "lower", "upper")),
        ("rows.0.median", float("nan")),
        ("rows.0.median", ...),
        ("rows.0.n_train", []),
        ("level", 95),
        ("dims", "encoder"),
        ("study.targets", ["many"]),
        ("study.encoders", "resnet_w4"),
        ("expected", []),
        ("expected.0.key", "../up"),
        ("expected.0.n_train", -1),
        ("sha256", None),
    ],
)
def test_a_forecast_of_another_shape_is_one_sentence(store, path, value):
    forecasts.register_forecast("ahead", **ASKED)
    file = store / "data" / "forecasts" / "ahead.json"
    rewritten(file, path, value)
    place = path.split(".")[-1]
    for act in (lambda: forecasts.judge_registered(file), forecasts.stored_forecasts):
        with pytest.raises(UserError, match=rf"ahead\.json' (is|was).*({place}|sha256).*restore it from git\.") as told:
            act()
        assert "\n" not in str(told.value)
    with pytest.raises(UserError, match="restore it from git"):
        forecasts.run_outcome("ahead")


@pytest.mark.parametrize("key", ["not json", "5", "{}", "[5]", '["../up"]'])
def test_a_forecast_that_does_not_name_its_pilot_is_one_sentence(store, key):
    forecasts.register_forecast("ahead", **ASKED)
    file = store / "data" / "forecasts" / "ahead.json"
    rewritten(file, "data_key", key)
    content, _ = forecasts.judge_registered(file)
    with pytest.raises(UserError, match="does not name the runs|is not a name for a run"):
        forecasts.pilot_losses(content)


@pytest.mark.parametrize("content", ["", "[]", "null", "{", "[" * 100_000, "\0\0", '{"sha256": 1}'])
def test_what_is_no_forecast_is_one_sentence(store, content):
    file = store / "data" / "forecasts" / "ahead.json"
    file.parent.mkdir(parents=True)
    file.write_text(content)
    with pytest.raises(UserError, match="restore it from git"):
        forecasts.stored_forecasts()


@pytest.mark.parametrize("name", ["../up", "/up", "a/b", "a\0b", "", "..", ".hidden", "a\n", "n" * 300])
def test_the_name_of_a_forecast_is_no_path(store, name):
    for act in (lambda: forecasts.register_forecast(name, **ASKED), lambda: forecasts.run_outcome(name)):
        with pytest.raises(UserError, match="is not a name for a forecast: use letters, digits"):
            act()
    assert not list(store.iterdir())


@pytest.mark.parametrize("content", ["", "{}", "5", "[5]", '[{"detail": 1}]', '[{"detail": {}}]', "[" * 100_000])
def test_a_report_of_another_shape_is_one_sentence(store, content):
    file = store / "data" / "benchmarks" / "sky_votes.json"
    file.parent.mkdir(parents=True)
    file.write_text(content)
    for read in (tables.reports, tables.measured):
        with pytest.raises(UserError, match="does not hold the rows") as told:
            read("sky_votes")
        assert "\n" not in str(told.value)


def test_a_book_without_runs_has_an_empty_table_of_them():
    assert list(tables.provenance([]).columns) == list(tables.PROVENANCE)


@pytest.fixture
def planned(tmp_path, monkeypatch):
    """The study's plan with the losses of a power law for what a test stores; nothing is trained."""
    real = forecasts.pretraining_study("study")
    known = {}
    template = real.records()[0]
    monkeypatch.setattr(forecasts, "_path", lambda name: tmp_path / f"{name}.json")
    monkeypatch.setattr(forecasts, "read_run", known.get)
    monkeypatch.setattr("gzlib.study.presets.read_run", known.get)

    def make(encoder, n, seed=0, *, factor=1.0, started="2027-01-01T00:00:00+00:00"):
        job = next((c, s) for c, s in real.jobs() if (c.encoder, c.n_train, c.seed) == (encoder, n, seed))
        loss = factor * (1 + 0.002 * seed) * (1 + 2 * (n / 500) ** -0.3)
        values = {name: loss * (1 + len(name) % 3) for name in template["metrics"]["questions"]}
        known[forecasts.key_of(*job)] = {
            **template,
            "key": forecasts.key_of(*job),
            "config": config_dict(job[0]),
            "metrics": {**template["metrics"], "loss": loss, "questions": values},
            "provenance": {**template["provenance"], "started": started},
        }

    return make


def _made_plan(planned, tmp_path):
    for n in (500, 1000, 2000, 4000, 8000, 16000):
        planned("resnet_w28", n)
    for n in (500, 1000):
        planned("resnet_w44", n)  # too few to forecast
    forecasts.register_plan("ahead")
    return tmp_path / "ahead.json"


@pytest.mark.slow
def test_a_plan_is_forecast_where_it_has_runs_to_come(planned, tmp_path):
    file = _made_plan(planned, tmp_path)
    content, rows = forecasts.judge_registered(file)
    assert {(run["encoder"], run["n_train"]) for run in content["expected"]} == {
        ("resnet_w28", n) for n in (32000, 64000)
    }
    totals = [row for row in rows if row["quantity"] == forecasts.TOTAL]
    assert [row["n_train"] for row in totals] == [32000, 64000]
    assert len(rows) - len(totals) == 88 and {row["n_train"] for row in rows if row not in totals} == {64000}
    assert all(row["outcome"] is None and row["inside"] is None for row in rows)
    pilot = forecasts.pilot_losses(content).sel(encoder="resnet_w28", seed=0)
    assert pilot.dropna("n_train").n_train.values.tolist() == [500, 1000, 2000, 4000, 8000, 16000]
    with pytest.raises(UserError, match="is not replaced"):
        forecasts.register_plan("ahead")


@pytest.mark.slow
def test_a_plan_s_outcome_counts_only_if_its_run_began_later(planned, tmp_path):
    file = _made_plan(planned, tmp_path)
    planned("resnet_w28", 64000, factor=1.01, started="2020-01-01T00:00:00+00:00")
    assert all(row["outcome"] is None for row in forecasts.judge_registered(file)[1])
    planned("resnet_w28", 64000)
    rows = [row for row in forecasts.judge_registered(file)[1] if row["outcome"] is not None]
    assert len(rows) == 89 and all(row["inside"] and abs(row["log_error"]) < 0.02 for row in rows)


@pytest.mark.slow
def test_outcomes_are_told_in_sentences(planned, tmp_path, monkeypatch):
    file = _made_plan(planned, tmp_path)
    planned("resnet_w28", 32000)
    planned("resnet_w28", 64000, factor=2.0)
    monkeypatch.setattr(forecasts, "input_files", lambda pattern: [file])
    pilots, rows = forecasts.registered_rows()
    assert list(pilots) == ["resnet_w28, plan study"]
    told = forecasts.registered_words(rows)
    assert told.startswith("Of 2 outcomes of the total that have been measured, 1 lies within the band.")
    assert "0 of 88 (0 %) do; 0 lie below the band and 88 above it" in told
    assert not forecasts.stored_forecasts(preset="laptop") and not forecasts.stored_forecasts(source="sim:24000")


@pytest.mark.slow
@pytest.mark.parametrize("value", [..., None, 5, "soon", "2026-11-26"])
def test_a_plan_s_forecast_without_its_moment_is_one_sentence(planned, tmp_path, value):
    file = _made_plan(planned, tmp_path)
    rewritten(file, "created", value)
    with pytest.raises(UserError, match=r"created.*restore it from git\.") as told:
        forecasts.judge_registered(file)
    assert "\n" not in str(told.value)


@pytest.mark.slow
def test_a_run_without_a_start_is_no_outcome(planned, tmp_path):
    file = _made_plan(planned, tmp_path)
    planned("resnet_w28", 64000, started=None)
    assert all(row["outcome"] is None for row in forecasts.judge_registered(file)[1])


@pytest.mark.slow
def test_the_outcome_of_a_plan_is_made_from_the_plan_or_not_at_all(planned, tmp_path, monkeypatch):
    _made_plan(planned, tmp_path)
    monkeypatch.setattr(forecasts, "sweep", lambda jobs: [(config.encoder, config.n_train) for config, _ in jobs])
    assert forecasts.run_outcome("ahead") == [("resnet_w28", 32000), ("resnet_w28", 64000)]
    monkeypatch.setattr(forecasts, "key_of", lambda config, survey: f"other{config.seed}")
    with pytest.raises(UserError, match="can't be made any longer"):
        forecasts.run_outcome("ahead")


def test_a_plan_with_nothing_to_come_is_one_sentence(planned):
    for n in (500, 1000):
        planned("resnet_w28", n)
    with pytest.raises(UserError, match="has no run to forecast"):
        forecasts.register_plan("ahead")


def test_committed_forecasts_were_stored_before_their_runs_began():
    for file in sorted((paths.project() / "data/forecasts").glob("*.json")):
        content = planner.load_forecast(file)
        for run in content["expected"] if "created" in content else ():
            record = run_store.read_run(run["key"])
            assert record is None or record["provenance"]["started"] > content["created"], run
