import json
from dataclasses import replace

import harness as bench
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from gzlib import paths
from gzlib.cli import main
from gzlib.config import Conduct, FinetuneConfig, PretrainConfig, Recipe, SurveySpec
from gzlib.errors import UserError
from gzlib.models.encoders import TRAINING_FACTOR, build_encoder, count_parameters, forward_flops
from gzlib.study import cost
from gzlib.study.presets import PAPER_ENCODERS, paper_recipe, preset_jobs, pretraining_study
from gzlib.training import run

MACHINE = {"processor": "P", "cores": 4, "threads": 2, "gpu": None}


@pytest.fixture
def growth():
    """A device that makes 1e9 operations a second with every encoder."""
    encoders = [
        {"axis": "encoder", "encoder": name, "side": 64, "n_params": i, "flops": flops, "value": flops / 1e9}
        for i, (name, flops) in enumerate({"resnet_w6": 2e7, "resnet_w24": 2e8, "convnext_w10": 4e7}.items(), start=1)
    ]
    sides = [{"axis": "side", "side": s, "value": s**2 * 1e-6, "view_seconds": s**2 * 1e-8} for s in (32, 64)]
    galaxies = [{"axis": "galaxies", "galaxies": n, "value": 1e4} for n in (1000, 10_000)]
    return {"machine": MACHINE, "rows": encoders + sides + galaxies}


def test_seconds_a_picture(growth):
    assert cost.seconds_a_picture(growth, "resnet_w24", 64) == pytest.approx(0.2)
    assert cost.seconds_a_picture(growth, "resnet_w24", 128) == pytest.approx(0.8)  # four times the area
    unknown = TRAINING_FACTOR * forward_flops("resnet_w10", 32) / 1e9  # every encoder runs at the same rate here
    assert cost.seconds_a_picture(growth, "resnet_w10", 32) == pytest.approx(unknown)
    assert np.isnan(cost.seconds_a_picture(None, "resnet_w24", 64))


def test_hours_and_the_largest_study(growth):
    study = pretraining_study("laptop", size=64, encoders=["resnet_w6", "resnet_w24"], n_train=[1000, 4000], seeds=[0])
    jobs = study.jobs()
    shown = [c.recipe.examples for c, _ in jobs]  # two encoders at 1,000 galaxies, then at 4,000
    seconds = shown[0] * 0.02 + shown[1] * 0.2 + shown[2] * 0.02 + shown[3] * 0.2
    # A forward pass is a third of a training step; each evaluation has all validation galaxies, the end both sets.
    forward = [c.recipe.evaluations * 1_200 + 1_200 + 2_400 for c, _ in jobs]
    expected = (seconds + sum(n * s / 3 for n, s in zip(forward, (0.02, 0.2, 0.02, 0.2), strict=True))) / 3600
    assert cost.study_hours(growth, jobs) == pytest.approx(expected)
    assert cost.largest_study(growth, jobs, hours=3 * expected) == pytest.approx(3 * max(shown))
    assert cost.most_examples(growth, "resnet_w24", 64, hours=1) == pytest.approx(18_000)
    assert np.isnan(cost.study_hours(None, jobs)) and np.isnan(cost.largest_study(None, jobs, hours=1))


def test_what_was_not_measured_says_so(growth):
    assert cost.in_words(float("nan")) == "not measured"
    assert cost.in_words(1234.5) == "1,230"
    assert cost.rows_along(None, "encoder").empty


def test_figure_has_one_line_for_each_family_and_device(growth):
    figure = cost.growth_figure({"one": growth, "two": growth})
    assert [len(axis.lines) for axis in figure.axes] == [4, 4, 2]
    plt.close(figure)


def test_stored_benchmarks_are_read_back(tmp_path, monkeypatch, growth):
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    with pytest.raises(UserError, match=r"bench growth --store"):
        cost.read_benchmarks()
    folder = tmp_path / "data" / "benchmarks"
    folder.mkdir(parents=True)
    for name in ("growth", "growth-h100"):
        (folder / f"{name}.json").write_text(json.dumps(growth))
    assert cost.read_benchmarks() == {"growth": growth, "growth-h100": growth}
    assert cost.device_of(growth) == "P, 2 of 4 cores"
    assert cost.device_of({"machine": MACHINE | {"gpu": "H100"}}) == "H100"


def test_bench_keeps_rows_and_machine_only_when_asked(tmp_path, monkeypatch, capsys):
    (tmp_path / "tiny.py").write_text(
        "from harness import row\n\n\ndef rows():\n    return [row('a', 1.0, 's', goal='<= 2', ok=True),"
        " row('b', None, 's', detail='needs a GPU')]\n"
    )
    monkeypatch.setattr(bench, "BENCHMARKS", tmp_path)
    monkeypatch.setattr(bench, "STORE", tmp_path / "stored")
    assert bench.available() == ["tiny"]
    assert bench.bench("tiny") == 0
    assert "not measured" in capsys.readouterr().out
    assert not (tmp_path / "stored").exists()
    bench.bench("tiny", as_json=True, store=True)
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    (file,) = (tmp_path / "stored").iterdir()
    record = json.loads(file.read_text())
    assert record["rows"] == lines and record["machine"]["torch"]
    with pytest.raises(UserError, match="no benchmark 'other'; there are tiny"):
        bench.bench("other")


def test_bench_goes_on_where_it_was_cut_off(tmp_path, monkeypatch):
    (tmp_path / "long.py").write_text(
        "from harness import row\n\n\ndef rows(known=(), kills=3):\n    yield from known\n"
        "    for i in range(len(known), kills):\n        if i == 2 and not known:\n"
        "            raise KeyboardInterrupt\n"
        "        yield row(f'row {i} after {len(known)}', i, '')\n"
    )
    monkeypatch.setattr(bench, "BENCHMARKS", tmp_path)
    monkeypatch.setattr(bench, "STORE", tmp_path / "stored")
    with pytest.raises(KeyboardInterrupt):
        bench.bench("long", store=True, kills=4)
    assert bench.bench("long", store=True, kills=4) == 0
    record = json.loads(bench.stored_file("long").read_text())
    assert [row["name"] for row in record["rows"]] == [f"row {i} after {0 if i < 2 else 2}" for i in range(4)]
    with pytest.raises(KeyboardInterrupt):
        bench.bench("long")
    with pytest.raises(UserError, match="'long' takes no --seed"):
        bench.bench("long", seed=3)


def test_a_missing_package_is_named():
    with pytest.raises(UserError, match=r"needs no_such_package, not installed here: pip install 'gzlib\[bench\]'"):
        bench.need(("json", "no_such_package"), "This comparison")


def test_tables_of_cost_hold_numbers_and_say_what_was_not_measured(growth):
    table = cost.encoders_table(growth, None, hours=1.0)
    assert table["encoder"].tolist() == ["resnet_w6", "resnet_w24", "convnext_w10"]
    assert table["time"].tolist() == pytest.approx([20, 200, 40]) and table["rate"].tolist() == pytest.approx([1] * 3)
    assert table["in 1 h"].tolist() == ["180,000", "18,000", "90,000"]
    assert "on one GPU, 1 h" not in table  # a column without a number is left out
    rows = cost.day_table(["smoke", "laptop", "smoke"], growth, None, hours=24.0)
    assert not any("GPU" in name for name in rows)
    jobs = pretraining_study("laptop").jobs()
    assert rows["preset"].tolist() == ["smoke", "laptop"] and rows["runs"][1] == len(jobs)
    assert rows["hours, this device"][1] == cost.in_words(cost.study_hours(growth, jobs))
    assert [cost.in_words(v) for v in (0.1333, 8_159_000, np.nan)] == ["0.133", "8,160,000", "not measured"]


def test_speed_and_loading_are_shown_as_they_were_stored():
    row = {"name": "loss.ratio", "value": 2.5, "unit": "x", "goal": ">= 2", "ok": True, "detail": "on a CPU"}
    table = cost.speed_table({"loss": {"rows": [row, row | {"value": None, "goal": None, "ok": None}]}})
    assert table.fillna(-1).values.tolist() == [
        ["loss", "ratio", 2.5, "×", "≥ 2", "yes", "on a CPU"],
        ["loss", "ratio", -1, "×", "", "", "on a CPU"],
    ]
    names = ("ratio224", "loader224.roofline", "efficiency.resnet_w6", "gpu_seconds")
    shown = cost.speed_table({"loader": {"rows": [row | {"name": f"loader.{name}"} for name in names]}}).measured
    assert list(shown) == ["ratio, 224 px", "roofline, 224 px", "efficiency, resnet_w6", "gpu seconds"]
    said = "a picture of 64 px: 6.14e+04 bytes = 0.775 us, 20 pictures/s"
    assert cost.tidied(said) == "an image of 64 px: 6.14\u00a0×\u00a010⁴ bytes = 0.775 µs, 20 images/s"
    loaded = {
        "axis": "galaxies",
        "galaxies": 1000,
        "resident": False,
        "bytes": 2e9,
        "opened_seconds": 0.5,
        "value": 10.0,
    }
    table = cost.galaxies_table({"rows": [loaded]})
    assert table.values.tolist() == [[1000, "memory-mapped", 2.0, 0.5, 10.0]]


def test_needs_are_those_of_the_network():
    found = cost.count_needs("resnet_w4", 32)
    network = build_encoder("resnet_w4", size=32).train()
    assert found.n_params == count_parameters(network)
    assert found.flops == pytest.approx(forward_flops("resnet_w4", 32), rel=1e-3)
    kept = {}

    def keep(tensor):
        if not isinstance(tensor, torch.nn.Parameter):
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    images = torch.rand(2, 3, 32, 32)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        out = network(images)
    assert out.shape[0] == 2
    assert found.kept == pytest.approx(sum(kept.values()) / 2, rel=0.02)


def test_the_studys_encoders_are_stored():
    stored = json.loads(cost.COUNTED.read_text())
    assert set(stored) == {f"{encoder} 224" for encoder in PAPER_ENCODERS}
    assert cost.encoder_needs("convnext_nano", 224).n_params == 14_952_560  # as its authors' file of weights has


@pytest.mark.long
@pytest.mark.parametrize("encoder", PAPER_ENCODERS)
def test_stored_needs_are_what_is_counted(encoder):
    found, stored = cost.count_needs(encoder, 224), cost.encoder_needs(encoder, 224)
    assert (found.n_params, found.flops) == (stored.n_params, stored.flops)
    assert found.kept == pytest.approx(stored.kept, rel=0.05)  # some layers keep other tensors from version to version


@pytest.mark.long
@pytest.mark.parametrize("encoder", PAPER_ENCODERS)
def test_each_encoder_of_the_paper_learns_at_its_own_size(store, encoder):
    """A few steps of the study's own recipe on a few images, from random weights."""
    recipe = replace(paper_recipe(encoder, 8), batch_size=2, accumulate=1, epochs=1.0, evaluations=1)
    record = run(
        PretrainConfig(encoder, 8, recipe=recipe), SurveySpec("sim:gz2:24", size=224), conduct=Conduct(device="cpu")
    )
    assert np.isfinite(record["metrics"]["loss"])
    assert record["metrics"]["n_params"] == cost.encoder_needs(encoder, 224).n_params


def test_a_plan_is_counted_run_by_run(own_store):
    survey = SurveySpec("sim:gz2:1000", size=32)
    recipe = Recipe(examples=5_000, evaluations=4, batch_size=16)
    jobs = [
        (PretrainConfig("resnet_w4", 500, seed=0, recipe=recipe), survey),
        (PretrainConfig("resnet_w4", 500, seed=1, recipe=recipe), survey),
        (FinetuneConfig("t", "resnet_w4", 300), survey),
    ]
    needs = cost.encoder_needs("resnet_w4", 32)
    (row,) = cost.plan_cost(jobs, {}).to_dict("records")
    assert row["runs"] == 3 and row["images"] == 2 * 5_000 + 300
    passes = 2 * (3 * 5_000 + 4 * 100 + 100 + 200) + 300 + 200
    assert row["operations"] == pytest.approx(passes * needs.flops)
    assert row["gpu_hours"] == pytest.approx(row["operations"] / cost.STATED_RATE / 3600)
    assert np.isnan(row["hours"])  # no benchmark was given
    assert row["disk"] == 2 * 4 * needs.n_params
    assert row["memory"] == 16 * needs.kept + 16 * needs.n_params


def test_where_a_benchmark_is_stored_hours_are_measured(growth, own_store):
    jobs = [(PretrainConfig("resnet_w24", 500, recipe=Recipe(examples=9_000)), SurveySpec("sim:gz2:1000", size=64))]
    (row,) = cost.plan_cost(jobs, {"growth": growth, "growth-h100": growth}).to_dict("records")
    passes = 9_000 + (10 * 100 + 100 + 200) / 3
    assert row["hours"] == row["gpu_hours"] == pytest.approx(passes * 0.2 / 3600)


def test_the_papers_plan_is_told_without_a_hub_and_before_anything_is_made(own_store, capsys, monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("a dry run fetches nothing")

    monkeypatch.setattr("gzlib.data.sources.registry.download", refuse)
    monkeypatch.setattr("gzlib.study.cost.count_needs", refuse)  # what takes long is stored
    plan = own_store / "plan.toml"
    plan.write_text('preset = "paper"')
    assert main(["sweep", str(plan), "--dry-run"]) == 0
    told = capsys.readouterr().out
    n = len(preset_jobs("paper", planned=True))
    assert told.endswith(f"\n{n} missing\n")
    assert told.count("\n") < 300  # thousands of runs are put together
    for words in (
        "operations",
        "GPU hours",
        "measured on one NVIDIA H200",
        "disk: ",
        "downloads",
        "memory: ",
    ):
        assert words in told
    assert {file.name for file in own_store.iterdir()} == {"plan.toml"}


def test_a_plan_of_galaxies_that_nobody_has_counted(own_store, capsys):
    plan = own_store / "plan.toml"
    table = '[survey]\nsource = "hub:someone/else"\n[[pretrain]]\nencoder = "resnet_w4"\n'
    plan.write_text(table)
    assert main(["sweep", str(plan), "--dry-run"]) == 2
    assert "not known before it is curated; give n_train" in capsys.readouterr().err
    plan.write_text(
        table + "n_train = 100\nname = 'a'\n[[finetune]]\nencoder = 'resnet_w4'\nweights = 'a'\nn_train = 9\n"
    )
    assert main(["sweep", str(plan), "--dry-run"]) == 0
    told = capsys.readouterr().out
    assert "of resnet_w4 n=100 seed=0" in told and "whose size is not known before the download" in told


def test_bytes_in_words():
    sizes = (0, 999, 1_000, 18_300_000_000, 121_000_000_000, 2e15)
    assert [cost.size_words(n) for n in sizes] == ["0 B", "999 B", "1 kB", "18.3 GB", "121 GB", "2e+03 TB"]


def compared(recipe, ratio, *, here=50.0, why="end", clock="processor"):
    """A row of benchmarks/time_to_loss.py."""
    times = {"zoobot": {clock: 100.0}, "gzlib": here and {clock: here}, "curation": {clock: 20.0}}
    about = {"recipe": recipe, "encoder": "some_encoder", "value": ratio, "ok": ratio >= 1.2, "goal": ">= 1.2"}
    about |= {"setting": {"galaxies": 4000, "size": 64, "epochs": 3, "cap": 5}, "runs": {"zoobot": {"why": why}}}
    about |= {"baseline": 31.0, "learned": True}
    about["along"] = [
        {"loss": 30.0, "ratio": 2.0},
        {"loss": 24.0, "ratio": 5.3},
        {"loss": 21.5, "ratio": ratio or None},
    ]
    return about | {"times": times, "target": 21.5, "clock": clock, "share": 0.25}


def test_time_to_a_loss_says_what_was_run_and_where_it_is_slower():
    least = {"name": "time_to_loss.ratio", "value": 0.0, "ok": False}
    record = {"machine": MACHINE, "rows": [compared("same", 2.0), compared("own", 0.0, here=None), least]}
    table = cost.training_table(record)
    assert table["recipe"].tolist() == ["the same", "each its own"] and table["reached"].tolist() == ["yes", "no"]
    assert table.loc[0, ["Zoobot", "gzlib", "of it curation", "ratio"]].tolist() == [100, 50, 20, 2.0]
    assert np.isnan(table.loc[1, "gzlib"]) and table.loc[0, "goal"] == "≥ 1.2"
    words = cost.training_words(record)
    assert "both trained for 3 epochs" in words and "Zoobot had at most 5 epochs" in words
    assert "Zoobot had not stopped by itself with some_encoder" in words and "25 to 25 %" in words
    never = "This code does not come as low as Zoobot with some_encoder (each its own)"
    assert words.endswith(f"{never}; to 24.00 nats, which both reach, the ratio is 5.3.")
    record["rows"][1]["along"] = [{"loss": 24.0, "ratio": None}]
    assert cost.training_words(record).endswith(f"{never}.")
    record["rows"] += [
        compared("own", 0.5) | {"encoder": "other", "setting": record["rows"][0]["setting"] | {"cap": 60}}
    ]
    words = cost.training_words(record)
    assert "at most 5 epochs with some_encoder and 60 epochs with other" in words
    assert words.endswith("This code is slower with other (each its own).")
    quiet = cost.training_words({"machine": MACHINE, "rows": [compared("own", 4.0, why="patience", clock="seconds")]})
    assert "The same recipe: not measured; each its own" in quiet and "jobs" not in quiet and "by itself" not in quiet
    assert quiet.endswith("This code is faster in each row.")
    ahead = compared("own", 1.5) | {"baseline": 30.0, "times": {"zoobot": {"seconds": 1}, "gzlib": {"seconds": 1}}}
    ahead["along"] = [{"loss": 35.0, "ratio": 0.1}] + [
        {"loss": 29.0 - i, "ratio": r} for i, r in enumerate((4.0, 0.85, 1.5))
    ]
    words = cost.training_words({"machine": MACHINE, "rows": [ahead]})
    assert "To losses on the way the ratio of some_encoder (each its own) is 0.85 to 4.00." in words


def test_time_to_a_loss_that_was_not_measured_or_learned_says_so():
    idle = {"machine": MACHINE, "rows": [compared("same", 2.0) | {"learned": False, "ok": None}]}
    assert "With some_encoder (the same) no loss below that of predicting the mean votes" in cost.training_words(idle)
    assert cost.training_table(idle).loc[0, "reached"] == ""
    idle["rows"].append({"name": "time_to_loss.same_recipe.e", "encoder": "e", "value": None})
    assert "Not measured, or with one recipe alone: e." in cost.training_words(idle)
    missing = {"name": "time_to_loss.own_recipe.e", "value": None}
    for record in (None, {"machine": MACHINE, "rows": [missing]}):
        assert cost.training_table(record).empty and "not measured" in cost.training_words(record)


@pytest.fixture
def rehearsed():
    """A rehearsal at two sizes: 10 ms of processor time for each further galaxy curated."""
    rows = [
        {"axis": "step", "step": step, "galaxies": n, "cpu_seconds": seconds, "count": count, "peak_bytes": 5e8}
        | ({"bytes": 100.0 * n, "kept": n} if step == "curate" else {})
        | ({"encoder": "resnet_w12", "side": 224} if step == "train" else {})
        for n in (2_000, 6_000)
        for step, seconds, count in (
            ("draw", 9.0, n), ("download", 3.0, 50), ("curate", 5 + 0.01 * n, n), ("train", 50.0, 500), ("fit", 2.0, 4),
        )
    ]  # fmt: skip
    memory = [{"axis": "memory", "name": f"rehearsal.memory.{step}", "value": 1.04} for step in ("curate", "train")]
    return {"machine": MACHINE, "rows": rows + memory}


def test_the_rehearsal_is_extrapolated_to_the_whole_survey(rehearsed):
    table = cost.rehearsal_table(rehearsed).set_index("step")
    assert table.index.tolist() == ["download", "curate", "train", "fit"]
    assert table.loc["curate", "whole survey, 2 cores"] == pytest.approx(805_600 * 0.01 / 2 / 3600)
    assert table.loc["curate", "whole survey, 16 cores"] == pytest.approx(805_600 * 0.01 / 16 / 3600)
    assert table.loc["download", "whole survey, 2 cores"] == pytest.approx(18.3e9 / 12.5e6 / 3600)
    assert table.loc["train", "whole survey, 2 cores"] == pytest.approx(663_840 * 0.1 / 2 / 3600)
    facts = cost.rehearsal_facts(rehearsed)
    assert facts["sizes"] == "2,000 and 6,000" and facts["curated"] == "80.6 MB" and facts["encoder"] == "resnet_w12"
    assert facts["memory"] == "1.04 for curate, 1.04 for train"


def test_a_rehearsal_that_was_not_made_says_so():
    assert cost.rehearsal_table(None).empty
    facts = cost.rehearsal_facts(None)
    assert facts["curated"] == facts["memory"] == "not measured" and facts["whole"] == "805,600"


def test_the_papers_study_by_encoder(growth):
    table = cost.paper_table({"growth": growth})
    assert table["encoder"].tolist() == list(PAPER_ENCODERS)
    assert set(table["runs"]) == {21} and cost.paper_words(table).startswith("21 runs with each encoder, which are")
    assert cost.paper_words(table.assign(runs=range(1, len(table) + 1))).startswith(f"1 to {len(table)} runs")
    nano = table.set_index("encoder").loc["convnext_nano"]
    assert nano["operations"] == pytest.approx(3 * 4.889776640)
    assert 10 < nano["GPU time"] < 100
    assert set(table["GPU rate"]) == {"–"} and table["GPU memory"].isna().all()
    assert "stated and not measured" in cost.gpu_words({"growth": growth})


def measured(machine=MACHINE | {"gpu": "NVIDIA H200"}, encoders=("convnext_nano",)):
    """What benchmarks/gpu.py writes, of a GPU that shows 2,000 images/s to every encoder."""
    rows = [
        {"name": f"paper.{e}", "axis": "paper", "encoder": e, "side": 224, "value": 1 / 2000, "flops": 3e10}
        | {"peak_bytes": 21e9, "detail": ""}
        for e in encoders
    ]
    rehearsed = {"name": "rehearsal.train.gpu", "axis": "gpu", "value": 1e4}
    mfu = {"name": "step.mfu", "value": 0.31, "unit": "of the matrix rate", "goal": None, "detail": "convnext_nano"}
    found = {"paper": rows, "rehearsal": [rehearsed], "step": [mfu, mfu | {"name": "step.other", "value": None}]}
    return {f"{what}-h200": {"machine": machine, "rows": rows} for what, rows in found.items()}


def test_hours_of_a_gpu_are_those_that_were_measured_on_it(growth):
    records = {"growth": growth} | measured(encoders=tuple(PAPER_ENCODERS))
    table = cost.paper_table(records).set_index("encoder")
    jobs = [job for job in pretraining_study("paper", planned=True).jobs() if job[0].encoder == "convnext_nano"]
    shown = sum(config.recipe.most_examples(config.n_train) for config, _ in jobs)
    assert shown / 2000 / 3600 < table.loc["convnext_nano", "H200 time"] < 2 * shown / 2000 / 3600  # validation
    assert set(table["H200 rate"]) == {"2,000"} and table["H200 memory"].round().eq(21).all()
    words = cost.gpu_words(records, jobs)
    assert words == "from the time of encoders measured on one NVIDIA H200"
    few = {"growth": growth} | measured()
    others = [(PretrainConfig(e, 100), SurveySpec("sim:gz2:1000", size=224)) for e in ("convnext_pico", "resnet_w4")]
    assert cost.gpu_words(few, others) == (
        f"{words}; of convnext_pico from the one most like it, by operations; of resnet_w4 operations over 50 T"
        " operations/s, a rate that is stated and not measured"
    )
    table = cost.plan_cost(others, few).set_index("encoder")
    assert table.loc["resnet_w4", "gpu_hours"] == pytest.approx(
        table.loc["resnet_w4", "operations"] / cost.STATED_RATE / 3600
    )
    assert cost.rehearsal_facts(None, cost.on_gpu(records))["rehearsed_gpu"].startswith(
        "10,000 images/s on one H200, 0.01"
    )
    # None of these encoders was measured there, and a column without a number is left out.
    assert "on one H200, 1 h" not in cost.encoders_table(growth, cost.on_gpu(records), hours=1.0)
    figure = cost.growth_figure({"CPU": growth, "H200": cost.on_gpu(records)})  # which lacks growth's own rows
    assert [len(axis.lines) for axis in figure.axes] == [2, 2, 1]
    plt.close(figure)


def test_an_encoder_measured_at_several_sizes_is_taken_at_the_nearest(growth):
    rows = [{"axis": "paper", "encoder": "resnet_w24", "side": 224, "value": 1.0, "flops": 1e9}]
    both = {"rows": growth["rows"] + rows}
    assert cost.seconds_a_picture(both, "resnet_w24", 224) == 1.0
    assert cost.seconds_a_picture(both, "resnet_w24", 64) == pytest.approx(0.2)


def test_an_encoder_that_was_not_measured_is_taken_like_the_nearest_of_its_family():
    rows = [
        {"axis": "paper", "encoder": "convnext_nano", "side": 224, "value": 3.0, "flops": 1.5e10},
        {"axis": "paper", "encoder": "tf_efficientnetv2_s", "side": 224, "value": 1.0, "flops": 1.7e10},
    ]
    wanted = TRAINING_FACTOR * cost.encoder_needs("tf_efficientnetv2_b0", 224).flops
    assert cost.seconds_a_picture({"rows": rows}, "tf_efficientnetv2_b0", 224) == pytest.approx(wanted / 1.7e10)
    wanted = TRAINING_FACTOR * cost.encoder_needs("convnext_pico", 224).flops
    assert cost.seconds_a_picture({"rows": rows}, "convnext_pico", 224) == pytest.approx(3 * wanted / 1.5e10)
    assert np.isnan(cost.seconds_a_picture({"rows": rows}, "resnet_w4", 224))  # nothing like it


def test_a_gpu_s_time_is_not_scaled_to_images_that_leave_it_idle():
    record = measured()["paper-h200"]
    at = {side: cost.seconds_a_picture(record, "convnext_nano", side) for side in (64, 112, 224, 448)}
    assert np.isnan(at[64]) and at[112] == pytest.approx(at[224] / 4) and at[448] == pytest.approx(4 * at[224])
    alone = record | {"machine": record["machine"] | {"gpu": None}}
    assert cost.seconds_a_picture(alone, "convnext_nano", 64) == pytest.approx(at[224] * (64 / 224) ** 2)


def test_what_a_gpu_did_takes_the_place_of_what_the_processor_could_not():
    on_cpu = {
        "name": "step.mfu",
        "value": None,
        "unit": "of the matrix rate",
        "goal": None,
        "ok": None,
        "detail": "needs a CUDA GPU",
    }
    slow = on_cpu | {"name": "step.bf16", "value": 0.5, "detail": "slow"}
    table = cost.speed_table({"step": {"rows": [on_cpu, slow]}} | measured())
    assert table[["measured", "value", "unit", "how"]].values.tolist() == [
        ["bf16", 0.5, "of the matrix rate", "slow"],
        ["model FLOPs", 0.31, "of the matrix rate", "on one NVIDIA H200: convnext_nano"],
    ]
