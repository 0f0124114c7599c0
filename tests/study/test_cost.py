import json

import harness as bench
import matplotlib.pyplot as plt
import numpy as np
import pytest

from gzlib import paths
from gzlib.errors import UserError
from gzlib.models.encoders import TRAINING_FACTOR, forward_flops
from gzlib.study import cost
from gzlib.study.presets import pretraining_study

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
    expected = (shown[0] * 0.02 + shown[1] * 0.2 + shown[2] * 0.02 + shown[3] * 0.2) / 3600
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


def test_a_missing_package_is_named():
    with pytest.raises(UserError, match=r"needs no_such_package, not installed here: pip install 'gzlib\[bench\]'"):
        bench.need(("json", "no_such_package"), "This comparison")


def test_tables_of_cost_hold_numbers_and_say_what_was_not_measured(growth):
    table = cost.encoders_table(growth, None, hours=1.0)
    assert table["encoder"].tolist() == ["resnet_w6", "resnet_w24", "convnext_w10"]
    assert table["time"].tolist() == pytest.approx([20, 200, 40]) and table["rate"].tolist() == pytest.approx([1] * 3)
    assert table["in 1 h"].tolist() == ["180,000", "18,000", "90,000"]
    assert set(table["on one H100, 1 h"]) == {"not measured"}
    rows = cost.day_table(["smoke", "laptop", "smoke"], growth, None, hours=24.0)
    jobs = pretraining_study("laptop").jobs()
    assert rows["preset"].tolist() == ["smoke", "laptop"] and rows["runs"][1] == len(jobs)
    assert rows["hours, this device"][1] == cost.in_words(cost.study_hours(growth, jobs))
    assert [cost.in_words(v) for v in (0.1333, 8_159_000, np.nan)] == ["0.133", "8,160,000", "not measured"]


def test_speed_and_loading_are_shown_as_they_were_stored():
    row = {"name": "loss.ratio", "value": 2.5, "unit": "x", "goal": ">= 2", "detail": "on a CPU"}
    table = cost.speed_table({"loss": {"rows": [row, row | {"value": None, "goal": None}]}})
    assert table.values.tolist() == [
        ["`loss.ratio`", "2.5 x", ">= 2", "on a CPU"],
        ["`loss.ratio`", "not measured", "", "on a CPU"],
    ]
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
