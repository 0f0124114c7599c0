"""Tables show numbers and words as a page needs them; the table of faults is of the tests that there are."""

import json

import numpy as np
import pandas as pd
import pytest

from gzlib import paths
from gzlib.errors import UserError
from gzlib.study import tables
from gzlib.study.tables import formula, intervals, markdown_table, number, share, span


@pytest.fixture(scope="module")
def collected():
    return tables.collected_faults()


@pytest.mark.slow
def test_the_stored_table_of_faults_is_of_these_tests(collected, monkeypatch):
    monkeypatch.setattr(tables, "collected_faults", lambda: collected)
    table = tables.fault_table()
    assert table.cases.sum() >= 150 and (table.passed + table.skipped == table.cases).all()
    assert (table.passed > 0).all()


@pytest.mark.slow
def test_marks_that_differ_from_the_table_fail_the_build(collected, monkeypatch):
    more = [*collected, {"kind": "zzz", "outcome": "read", "cases": 1, "passed": 0, "skipped": 0}]
    fewer = [collected[0] | {"cases": collected[0]["cases"] - 1}, *collected[1:]]
    for other in (more, fewer, collected[1:]):
        monkeypatch.setattr(tables, "collected_faults", lambda other=other: other)
        with pytest.raises(UserError, match="is not of the tests that there are now"):
            tables.fault_table()


@pytest.mark.slow
def test_each_kind_says_what_becomes_of_it(collected):
    outcomes = {row["outcome"] for row in collected}
    assert outcomes == {"read", "galaxies rejected", "refused in one sentence"}
    assert json.loads((paths.ROOT / tables.FAULTS).read_text())


@pytest.mark.parametrize(
    ("value", "form", "shown"),
    [
        (-0.25, ".2f", "−0.25"),
        (-0.0001, ".3f", "0.000"),
        (0.25, "+.1f", "+0.2"),
        (2.3e-5, ".2g", "2.3\u00a0×\u00a010⁻⁵"),
        (-1.5e12, ".2g", "−1.5\u00a0×\u00a010¹²"),
        (12345.6, ",.0f", "12,346"),
        (float("inf"), ".2f", "∞"),
        (float("-inf"), ".2f", "−∞"),
        (float("nan"), ".2f", "–"),
        (None, ".2f", "–"),
        (pd.NA, ".2f", "–"),
        (np.int64(-7), "", "−7"),
        (0, "", "0"),
        (0.00004, "+.4f", "0.0000"),
    ],
)
def test_a_number_has_a_true_minus_and_no_negative_zero(value, form, shown):
    assert number(value, form) == shown


def test_an_estimate_lies_within_its_interval_as_shown():
    def shown(*ends, **options):
        return [text.replace("\u00a0to\u00a0", " to ") for text in intervals(*ends, **options)]

    assert shown([0.0246, 0.0895], [0.021, 0.0287], [0.329, 0.3954]) == [
        "0.0246 (0.0210 to 0.3290)",
        "0.0895 (0.0287 to 0.3954)",
    ]
    assert shown(21.04, 21.01, 21.04) == ["21.0 (21.0 to 21.0)"]
    assert shown(-0.00001, -2, 3) == ["0.000 (−2.000 to 3.000)"]
    assert shown(0.0, 0.0, np.inf) == ["0.00 (0.00 to ∞)"]
    assert shown(np.nan, np.nan, np.nan) == ["– (– to –)"]
    assert shown(12345, 9876, 23456, digits=2) == ["12,345 (9,876 to 23,456)"]


def test_counts_and_laws_for_prose():
    assert share([True, False, True]) == "2 of 3" and span([0.5, np.nan, -0.25], ".1f") == "−0.2 to 0.5"
    assert formula("E + A (N^-r + R/D)^beta") == r"$E + A (N^{-r} + R/D)^{\beta}$"
    assert formula("(L0 - E) N^-alpha") == r"$(L_{0} - E) N^{-\alpha}$"


def cells(markdown):
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in markdown.splitlines()]


def test_numbers_stand_right_with_their_points_below_one_another():
    frame = pd.DataFrame(
        {"p": [0.13, 0.0066, 1.0], "n": [1000, 20, 3], "word": ["a", "b", "007"], "all": ["1,000", "–", "−2"]}
    )
    head, sides, *rows = cells(markdown_table(frame, index=False, floatfmt=".2g", intfmt=","))
    assert head == ["p", "n", "word", "all"]
    assert [side.endswith(":") for side in sides] == [True, True, False, True]
    assert [row[0] for row in rows] == ["0.13&#8199;&#8199;", "0.0066", "1&#8199;&#8199;&#8199;&#8199;&#8200;"]
    assert [row[1] for row in rows] == ["1,000", "20", "3"] and rows[2][2] == "007"
    assert [row[3] for row in rows] == ["1,000", "–", "−2"]
    powers = cells(markdown_table(pd.DataFrame({"p": [0.5, 1e-9]}), index=False))
    assert [row[0] for row in powers[2:]] == ["0.5", "1\u00a0×\u00a010⁻⁹"]


def test_words_in_place_of_too_large_numbers_stand_right_with_the_numbers():
    frame = pd.DataFrame(
        {
            "labels": ["97,900", "out of reach"],
            "band": ["64,000 to no limit", "138,000 to 1,560,000"],
            "can be": ["84 %", "over 99 %"],
            "status": ["forecast", "out of reach"],
            "none": ["out of reach", "out of reach"],
        }
    )
    sides = cells(markdown_table(frame, index=False))[1]
    assert [side.endswith(":") for side in sides] == [True, True, True, False, False]


def test_formats_by_place_or_by_heading_hold_for_whole_numbers_too():
    frame = pd.DataFrame({"n": [1000], "x": [0.5]}, index=pd.Index([-3], name="i"))
    assert cells(markdown_table(frame, floatfmt=["", ",.0f", ".3f"]))[2] == ["−3", "1,000", "0.500"]
    assert cells(markdown_table(frame, floatfmt={"n": ",.0f"}))[2] == ["−3", "1,000", "0.5"]
    with pytest.raises(ValueError, match="zip"):
        markdown_table(frame, floatfmt=[".3f"])


def test_missing_values_truth_values_units_and_markup():
    frame = pd.DataFrame({"E": [np.nan, 1.0], "held": [True, False], "law": ["`a|b`", "$x$"], "x": [None, "*b*"]})
    table = markdown_table(frame, index=False, units={"E": "nats"}, markup=["law"], floatfmt=".1f")
    assert "E &#91;nats&#93;" in table and "yes" in table and "`a\\|b`" in table and "$x$" in table
    assert "&#42;b&#42;" in table and "nan" not in table and "None" not in table


def test_an_empty_table_has_its_headings():
    assert cells(markdown_table(pd.DataFrame({"a": [], "b": []}), index=False))[0] == ["a", "b"]


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    (tmp_path / "data" / "benchmarks").mkdir(parents=True)
    (tmp_path / "data" / "plans").mkdir()
    return tmp_path / "data"


def test_what_was_not_measured_makes_empty_tables(project):
    for make in (
        tables.curves_table,
        tables.peers_table,
        tables.recovery_table,
        tables.families_table,
        tables.claims_table,
    ):
        assert make().empty
    assert tables.coverage_words() == "This has not been measured here yet."


def test_tables_of_the_methods_are_of_the_stored_benchmarks():
    curves = tables.curves_table()
    assert curves.method[0] == "forecast of this book" and curves.error[0] == curves.error.min()
    assert abs(curves["best on"].sum() - 100) < 1e-6
    assert tables.coverage_words().startswith("Its bands of 50, 80 and 95 % hold ")
    assert set(tables.peers_table()) == {"method", "curves", "failed", "error", "coverage", "time"}
    families = tables.families_table()
    assert "few sizes" in families.index and (families["error"] <= families["of the others"]).any()
    recovery = tables.recovery_table().set_index("interval")
    assert list(recovery) == ["A", "E", "α", "mean loss at 4 ×", "new run at 4 ×"] and recovery.index[0] == "profile"
    assert recovery.loc["profile", ["A", "E", "α"]].between(0.9, 1).all() and np.isnan(recovery.loc["forecast", "A"])
    assert " designs refused or failed; the median error is " in tables.recovery_words()


def test_the_tests_of_claims_are_shown_by_the_scatter_of_the_encoders():
    table = tables.claims_table()
    assert list(table)[:5] == ["scatter", "without an effect", "scatter falls", "interval holds", "bound"]
    assert table["scatter falls"].max() < 0.07
    assert table.scatter.tolist() == [0.5, 1.0, 2.0] and table["without an effect"].max() < 0.07
    assert (table["effect −0.10"] >= table["effect −0.02"]).all()


def test_the_plan_lists_its_questions_by_campaign(project, monkeypatch):
    file = project / "plans" / "questions.json"
    plan = {"asked": {"bar-gz2": 500, "bar-dr5": 20, "rings-dr5": 700}, "least": 300, "undecidable": {"bar-dr5": 20}}
    file.write_text(json.dumps(plan))
    table, words = tables.questions_table()
    assert table.set_index("question").loc["bar"].tolist() == [500, 20] and list(table) == ["question", "gz2", "dr5"]
    assert np.isnan(table.set_index("question").loc["rings", "gz2"])
    assert words == "2 of 3 questions are asked of at least 300; not bar-dr5."
    file.write_text(json.dumps(plan | {"undecidable": {}}))
    assert tables.questions_table()[1] == "All 3 questions are asked of at least 300 test galaxies."
    for broken in ("{", "[]", "{}", '{"asked": 3, "undecidable": {}, "least": 1}'):
        file.write_text(broken)
        with pytest.raises(UserError, match=r"questions\.json is missing or not the list"):
            tables.questions_table()
    file.unlink()
    with pytest.raises(UserError, match=r"questions\.json is missing"):
        tables.questions_table()


def test_stored_forecasts_of_public_curves_designs_and_plans_make_tables():
    domains, (designs, said), plans = tables.domains_table(), tables.designs_table(), tables.planning_table()
    assert domains.curves.sum() == 463 and domains["95 %"].between(0.8, 1).all()
    assert set(designs.law) == {"offset", "broken", "logarithm"} and "of 180 designs" in said
    known = {"labels", "offset power law", "law known", "risk 0.05", "regression 0.05"}
    assert known <= set(plans.plan) and plans.failures.between(0, 1).all()
    risks, words = tables.risk_table()
    assert risks["curves of"].tolist().count("all") == 3 and risks.curves[0] >= 300
    assert abs(risks["missed at 50 %"][0] - 0.5) < 0.1 and risks["missed at 5 %"][0] < 0.1
    assert "of plans miss the target, and " in words
    assert tables.interval_words().startswith("The 50 / 80 / 95 % intervals of labels hold what was needed for ")


def test_plans_that_were_not_measured_are_said_to_be_missing(project):
    assert tables.risk_table()[1] == "This has not been measured here yet." and not len(tables.planning_table())
    assert tables.interval_words() == ""


def test_what_recipes_devices_and_encoders_were_measured_to_do(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    assert not len(tables.recipe_table("families")) and not len(tables.devices_table())
    assert [len(table) for table in tables.encoders_table()] == [0, 0]
    folder = tmp_path / "data" / "benchmarks"
    folder.mkdir(parents=True)
    common = {"encoder": "vit_w64", "n_train": 2000}
    cells = [
        common | {"candidate": "rate 0.01", "loss": None, "why": "The loss is nan (learning rate 0.01)"},
        common | {"candidate": "rate 0.001", "loss": 25.5, "best_epoch": 40.0, "why": "patience"},
    ]
    (folder / "recipe-families.json").write_text(json.dumps({"cells": cells}))
    shown = tables.recipe_table("families")
    assert shown["rate"].tolist() == [0.001, 0.01] and shown["ended"].tolist()[1] == "not a number"
    run = {"encoder": "resnet_w8", "n_train": 500, "device": "H200", "loss": 26.5, "loss_here": 26.75}
    (folder / "devices.json").write_text(json.dumps({"runs": [run]}))
    assert tables.devices_table()["difference"].tolist() == [0.25]
    about = {"name": "timm", "value": 1, "unit": "", "detail": ""}
    rows = [about | {"encoder": "a", "family": "x", "size": 64, "outcome": "works", "sentence": ""}]
    sentence = "Encoder 'b' cannot take images of 64 px; it takes 80, 96 px."
    rows += [about | {"encoder": "b", "family": "y", "size": 64, "outcome": "refused", "sentence": sentence}]
    (folder / "timm_families.json").write_text(json.dumps({"rows": rows}))
    counts, refused = tables.encoders_table()
    assert counts.iloc[0].tolist() == [64, 1, 1, 1, 1, 0, 0] and refused["takes"].tolist() == ["80, 96"]


def test_convergence_is_told_as_a_share_of_a_doubling(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    assert tables.convergence_words() == "It was not measured."
    file = tmp_path / "data" / "benchmarks" / "recipe-convergence.json"
    file.parent.mkdir(parents=True)
    losses = {"study": 25.0, "twice the budget": 24.9, "half the rate": 25.1, "twice the rate": 25.3}
    cells = [
        {"encoder": "resnet_w4", "n_train": 500, "candidate": name, "loss": loss, "best_epoch": 9.0, "why": "patience"}
        for name, loss in losses.items()
    ]
    doublings = [{"encoder": "resnet_w4", "n_train": 500, "gain": 1.0}]
    file.write_text(json.dumps({"cells": cells, "doublings": doublings}))
    told = tables.convergence_words()
    assert told.startswith("Over 3 cells the loss moves by 10 % of what a doubling")
    assert "the most in one cell is 30 % (resnet_w4, 500 galaxies, twice the rate)" in told
    assert tables.recipe_table("convergence").recipe.tolist()[0] == "twice the budget"


@pytest.mark.parametrize("content", ["", "{}", "5", "[5]", '{"cells": 5}', '{"cells": [5]}', "[" * 100_000])
def test_a_list_of_another_shape_is_one_sentence(tmp_path, monkeypatch, content):
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    file = tmp_path / "data" / "benchmarks" / "recipe-convergence.json"
    file.parent.mkdir(parents=True)
    file.write_text(content)
    with pytest.raises(UserError, match=r"recipe-convergence\.json does not hold the list 'cells'") as told:
        tables.convergence_words()
    assert "\n" not in str(told.value)


def test_disturbed_commands_are_summed_by_kind_and_by_command(monkeypatch, tmp_path):
    row = {"name": "n", "unit": "", "goal": "0", "detail": "", "ok": True, "equal": True, "half_written": 0}
    rows = [
        row | {"phase": p, "fault": f, "moment": m, "outcome": o, "compared": c, "value": lost, "ok": ok}
        for p, f, m, o, c, lost, ok in [
            ("curate", "kill", "file operation 3 of 9 (open)", "killed", 10, 0, True),
            ("curate", "kill", "20% of its time", "finished", 10, 0, True),
            ("predict", "kill", "file operation 1 of 2 (open)", "killed", 5, 2, False),
            ("curate", "two at once", "5% of its time apart", "finished and waits for no one", 10, 0, True),
            ("predict", "two at once", "5% of its time apart", "finished and finished", 5, 0, True),
            ("predict", "full disk", "4 KiB free", "", 5, 0, False),
        ]
    ]
    (tmp_path / "data" / "benchmarks").mkdir(parents=True)
    (tmp_path / "data" / "benchmarks" / "faults.json").write_text(json.dumps({"rows": rows}))
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    kinds = tables.disturbed("fault").set_index("what happened")
    assert kinds.times.tolist() == [3, 2, 1] and kinds.lost.tolist() == [2, 0, 0]
    assert kinds.commands.tolist() == ["curate, predict", "curate, predict", "predict"]
    assert kinds["the command"].tolist() == [
        "killed 2, finished 1",
        "finished 3, waits for no one 1",
        "ended otherwise 1",
    ]
    assert kinds["same end"].tolist() == ["2 of 3", "2 of 2", "0 of 1"]
    kills = tables.disturbed("phase").set_index("command")
    assert kills.times.to_dict() == {"curate": 2, "predict": 1}
    assert kills["at a file operation"].tolist() == [1, 1] and kills["at a moment"].tolist() == [1, 0]
    assert kills["had ended before"].tolist() == [1, 0] and kills["sums compared"].tolist() == [20, 5]


def test_the_stored_disturbances_lost_nothing():
    found = tables.disturbed("fault")
    assert found.lost.sum() == found["half-written"].sum() == 0 and found.times.sum() >= 100
    assert tables.disturbed("phase").times.sum() >= 60
    assert all(text == f"{n} of {n}" for text, n in zip(found["same end"], found.times, strict=True))


def test_finetuning_beside_zoobot(tmp_path, monkeypatch):
    rows = [
        {"name": "a", "task": "some_rings", "n_train": 50, "commonest": 0.5}
        | {"errors": {"gzlib": [0.2, 0.4], "Zoobot": [0.5, 0.5]}},
        {"name": "b", "task": "some_rings", "n_train": 200, "value": None},  # not all repeats were measured
        {"name": "zoobot_finetune.time", "value": 1.44, "detail": "6 runs each"},
    ]
    (tmp_path / "data" / "benchmarks").mkdir(parents=True)
    file = tmp_path / "data" / "benchmarks" / "zoobot_finetune.json"
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    assert tables.zoobot_table().empty and tables.zoobot_words() == ""
    file.write_text(json.dumps({"rows": rows}))
    (row,) = tables.zoobot_table().to_dict("records")
    assert row == {"task": "some rings", "labels": 50, "gzlib": "0.30 ± 0.14", "Zoobot": "0.50 ± 0.00"} | {
        "commonest class": "0.50"
    }
    assert tables.zoobot_words() == (
        "Zoobot's runs took 1.4 times the time of full finetuning here (6 runs each). On some rings with 50 labels it"
        " ended at the error of the commonest class, which says little of it. The runs on some rings with 200 labels"
        " are not complete."
    )
    file.write_text(json.dumps({"rows": [row | {"task": "decals_rings"} if "task" in row else row for row in rows]}))
    assert list(tables.zoobot_table().task) == ["rings, DECaLS"] and "On rings (DECaLS) with" in tables.zoobot_words()


def test_the_list_of_runs_names_weights_by_the_first_letters_of_their_key():
    made = {"provenance": {"seconds": 1.0}, "survey": {"source": "sim:9", "fingerprint": "0" * 16}}
    config = {"n_train": 5, "encoder": "resnet_w4", "seed": 0}
    first = {"key": "a" * 16, "kind": "pretrain", "config": config | {"weights": "random"}, "metrics": {"loss": 2.0}}
    second = {"task": "rings", "mode": "full", "weights": "a" * 16}
    second = {"key": "b" * 16, "kind": "finetune", "config": config | second, "metrics": {"error": 0.1}}
    listed = tables.provenance([first | made, second | made])
    assert list(listed["mode"]) == ["pretrain", "full"] and list(listed.weights) == ["random", "a" * 8]
