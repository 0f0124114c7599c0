"""Tables of the sky's benchmarks: made from committed reports, and missed loudly when a report is missing."""

import json

import pytest

from gzlib import paths
from gzlib.errors import UserError
from gzlib.sky import sky_identity
from gzlib.study import sheets


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "ROOT", tmp_path)

    def write(name, records):
        folder = tmp_path / "data" / "benchmarks"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.json").write_text(json.dumps(records))

    return write


def test_votes_table_has_a_row_for_each_question(project):
    detail = {"mean_gap": 0.01, "entropy": [0.4, 0.5], "votes_reaching": [4.5, 4.6], "galaxies_compared": [900, 1234]}
    project("sky_votes", [{"name": "votes.bar-gz2", "value": 0.02, "detail": detail}])
    table = sheets.votes_table()
    assert table.loc["bar-gz2"].tolist() == [0.01, 0.02, 0.4, 0.5, 4.5, 4.6, "1,234"]


def test_pictures_table_shows_every_view_and_the_yardstick(project):
    detail = {"auc": {"full": 0.9, "grey_blurred": 0.8}, "auc_real_half_against_half": 0.51}
    detail |= {"sky": sky_identity(), "auc_fresh_encoder": [0.8, 0.86]}
    structure = {measure: {"real": [2.0, 1, 3], "simulated": [2.5, 1, 4]} for measure in sheets._MEASURES}
    project(
        "sky_realism",
        [
            {"name": "sky.realism.gz2.matched", "value": 0.9, "detail": detail},
            {"name": "sky.structure.gz2", "value": 0.7, "detail": {"sky": sky_identity(), "measures": structure}},
            {"name": "sky.realism.yardstick", "value": 0.97, "detail": {"size": 64}},
            {"name": "sky.realism.gz2.matched", "value": 0.95, "detail": detail | {"sky": "another"}},
        ],
    )
    assert not any("version before" in name for name in sheets.pictures_table().index)
    table = sheets.pictures_table(before=True)
    assert table.loc["GZ2: real against simulated (matched)"].to_dict() == {
        "full": 0.9,
        "grey blurred": 0.8,
        "fresh encoder": 0.83,
    }
    assert "GZ2: real against simulated (matched; version before)" in table.index
    assert table["full"].tolist() == [0.9, 0.9, 0.51, 0.97]
    assert table["grey blurred"].isna().sum() == 2
    found = sheets.structure_table()
    assert found.loc[("GZ2", "neighbours per image")].tolist() == ["2.00", "2.50"]
    assert list(found.columns) == ["real", "simulated"]


def comparison() -> dict:
    """What benchmarks/transfer.py writes: ImageNet needs twice the labels, and never gets there on the second task."""
    few = {"25": [0.4, 0.4], "50": [0.3, 0.3], "100": [0.2, 0.2], "200": [0.1, 0.1]}
    better = {"25": [0.3, 0.3], "50": [0.2, 0.2], "100": [0.1, 0.1], "200": [0.05, 0.05]}
    best = {n: [0.01, 0.02] for n in few}
    rows = []
    for task, galaxies in (("gz2_five_classes", better), ("decals_rings", best)):
        common = {"task": task, "galaxies": 300, "balanced_accuracy": 0.8, "auc": 0.9}
        rows.append(common | {"arm": "ImageNet", "error": 0.1, "few": few})
        gain = {"reduction": 0.5, "low": -0.01, "high": 0.6}
        rows.append(common | {"arm": "ImageNet + galaxies", "error": 0.05, "few": galaxies} | gain)
    means = {"arm": "ImageNet + galaxies", "reduction": 0.5, "low": 0.2, "high": 0.6}
    means |= {"low_these_tasks": 0.4, "high_these_tasks": 0.55}
    return {"rows": rows, "means": [means], "in_mean": ["gz2_five_classes", "decals_rings"]}


def test_transfer_to_real_galaxies_in_tables_and_words(project):
    project("transfer", comparison())
    report = sheets.transfer_report()
    table, gains = sheets.transfer_table(report)
    assert gains["errors removed"].tolist() == [50, 50] and gains["95 % interval"].tolist()[0] == "−1 to 60"
    assert table["features from"].tolist() == ["ImageNet", "ImageNet + galaxies"]
    assert table["rings, DECaLS (300)"].tolist() == [0.1, 0.05]
    assert gains["balanced accuracy"].tolist() == ["0.80 to 0.80"] * 2
    assert sheets.transfer_means(report).iloc[0].tolist() == ["ImageNet + galaxies", 50, "20 to 60", "40 to 55"]
    assert "50 % fewer errors" in sheets.transfer_words(report) and "supported" in sheets.transfer_words(report)
    said = sheets.transfer_failures(report)
    assert "ImageNet + galaxies on five classes (GZ2: −1 to 60 %)" in said and sheets.transfer_failures({}) == ""
    assert sheets.transfer_words(report).endswith(
        ": supported, though on five classes (GZ2) undecided (−1 to 60 %) and on rings (DECaLS) undecided (−1 to 60 %)."
    )
    assert sheets.transfer_short(report).startswith(
        "50 % (20 to 60 %, 2 tasks): supported; five classes (GZ2): 50 % (−1"
    )
    for row in report["rows"][2:]:
        row |= {"reduction": -0.3, "low": -0.4, "high": -0.2} if row["arm"] != "ImageNet" else {}
    assert "and on rings (DECaLS) they make 30 % more (20 to 40 %)" in sheets.transfer_words(report)
    assert sheets.transfer_short(report).endswith("rings (DECaLS): −30 % (−40 to −20 %)")
    apart = sheets.transfer_words(report | {"in_mean": ["gz2_five_classes"]})
    assert "On 1 sets" in apart and "and on a further set, rings (DECaLS), they make 30 % more" in apart
    refuted = report | {"means": [report["means"][0] | {"low": -0.1}]}
    assert "undecided" in sheets.transfer_words(refuted)


def encoder_of(number: int, gain: float) -> dict:
    share = {"reduction": gain, "low": -0.5, "high": 0.9, "low_these_tasks": gain - 0.1, "high_these_tasks": gain + 0.1}
    few = {"25": [0.4, 0.5], "50": [0.3, 0.2]}
    rows = [{"task": "decals_rings", "arm": arm, "error": 0.2, "few": few} for arm in ("ImageNet", "ImageNet + some")]
    found = {"encoder": f"tf_efficientnet_lite{number}", "parameters": 4_000_000, "rows": rows, "galaxies": share}
    return found | ({"larger": {"ImageNet": share, "ImageNet + some": share}} if number else {})


def test_larger_encoders_on_real_galaxies_in_tables_and_words():
    report = comparison() | {"sizes": [encoder_of(0, 0.3), encoder_of(1, 0.2), encoder_of(2, -0.2)]}
    table = sheets.size_table(report)
    assert table["encoder"].tolist() == [f"EfficientNet-Lite{i}" for i in range(3)]
    assert table["by galaxies"].tolist() == ["30 (20 to 40)", "20 (10 to 30)", "−20 (−30 to −10)"]
    assert table["by size, ImageNet"].tolist() == ["–", "20 (10 to 30)", "−20 (−30 to −10)"]
    words = sheets.size_words(report)
    assert "Lite1 makes 20 % fewer errors (10 to 30 %) with ImageNet's features" in words
    assert "Lite2 makes 20 % more errors (10 to 30 %) with ImageNet's features" in words
    assert "is not shown to differ (share of the errors gone: 5 %, −5 to 15 %)" in sheets.size_words(
        {"sizes": [encoder_of(0, 0.3), encoder_of(1, 0.05)]}
    )
    # both arms of the same errors: ImageNet needs as many labels
    assert "over 1 task at least EfficientNet-Lite0 1.00 times as many (" in words
    assert "EfficientNet-Lite2 1.00 times as many" in words
    report["sizes"][1]["rows"][0]["few"] = {}
    assert "times as many" not in sheets.size_words(report)
    report["sizes"][1]["rows"][0]["few"] = report["sizes"][1]["rows"][1]["few"]
    curves = sheets.size_curves(report)
    assert dict(curves.sizes) == {"task": 1, "encoder": 3, "n_train": 2, "seed": 2}
    assert sheets.size_curves(comparison()) is None and sheets.size_table(comparison()).empty
    assert "not measured" in sheets.size_words(comparison())


@pytest.mark.slow
def test_arms_compared_again_join_the_others():
    from transfer import joined

    before = {"sets": {"rings": "a"}, "pretraining": {"random-sky": 1}, "means": [], "sizes": ["old"]}
    before["rows"] = [
        {"arm": arm, "task": "rings", "error": 0.2, "full": {"50": [0.3]}}
        for arm in ("ImageNet", "ImageNet + galaxies")
    ]
    found = {"sets": {"rings": "a"}, "pretraining": {"imagenet-sky": 2}, "means": [], "sizes": []}
    found["rows"] = [{"arm": "ImageNet", "task": "rings", "error": 0.2}]
    out = joined(found, before)
    assert [row["arm"] for row in out["rows"]] == ["ImageNet", "ImageNet + galaxies"]
    assert out["rows"][0]["full"] == {"50": [0.3]} and out["sizes"] == ["old"] and len(out["pretraining"]) == 2
    found["rows"] = [{"arm": "ImageNet", "task": "rings", "error": 0.1}]  # other features: full finetuning was another
    assert "full" not in joined(found, before)["rows"][0]
    with pytest.raises(SystemExit, match="other galaxies"):
        joined(found | {"sets": {"rings": "b"}}, before)


@pytest.mark.slow
def test_the_labels_that_galaxies_are_worth(project):
    curves = sheets.transfer_curves(comparison())
    assert dict(curves.sizes) == {"task": 2, "start": 2, "n_train": 4, "seed": 2}
    table, (mean, low, high) = sheets.labels_multiplier(curves)
    assert table["labels"].tolist() == [100, 100] and table["reached"].tolist() == [True, False]
    assert table["multiplier"].tolist() == pytest.approx([2, 2]) and (mean, low, high) == pytest.approx((2, 2, 2))


def test_a_transfer_that_was_not_measured_says_so(project):
    assert sheets.transfer_report() == {} and "not been measured" in sheets.transfer_words({})


def test_a_damaged_transfer_report_is_refused(project):
    project("transfer", {"rows": [{"task": "decals_rings"}]})
    with pytest.raises(UserError, match=r"transfer\.json does not hold a comparison"):
        sheets.transfer_report()


def test_a_missing_report_names_the_command_that_makes_it(project):
    with pytest.raises(UserError, match=r"sky_votes.json is missing; run `python benchmarks/sky_votes.py --write`"):
        sheets.votes_table()


def test_probes_against_full_finetuning_on_real_galaxies(project):
    """By the rule of rules.toml: equal within a tenth, apart where the interval excludes one."""
    report = comparison()
    few = {"200": [0.2, 0.22, 0.18]}
    for row, full in zip(report["rows"][1::2], ([0.2, 0.22, 0.18], [0.1, 0.12, 0.08]), strict=True):
        row |= {"few": few, "full": {"200": full, "800": [0.1, 0.1]}}
    table = sheets.full_table(report).set_index("task")
    assert table.loc["five classes, GZ2", ["labels", "draws", "ratio", "outcome"]].tolist() == ["200", 3, 1, "equal"]
    assert table.loc["rings, DECaLS", "ratio"] == pytest.approx((2 * 0.22 / 0.12 * 0.18 / 0.08) ** (1 / 3))
    assert table.loc["rings, DECaLS", "outcome"] == "worse"
    said = sheets.full_words(table)
    assert "as good or better on 1 of 2 decided tasks (0 of 2 undecided): supported" in said
    assert "not been measured" in sheets.full_words(sheets.full_table(comparison()))


def test_full_finetuning_from_two_starts_on_real_galaxies(project):
    report = comparison()
    assert "not been measured" in sheets.finetuned_words(sheets.finetuned_table(report))
    for row in report["rows"]:
        better = 0.5 if row["arm"] == "ImageNet + galaxies" else 1.0
        row["full"] = {"50": [0.1], "200": [better * 0.2, better * 0.3, better * 0.4]}
    table = sheets.finetuned_table(report)
    assert table.labels.tolist()[:-1] == ["200"] * (len(table) - 1) and table.draws.tolist() == [3] * len(table)
    assert table[["removed", "low", "high"]].to_numpy() == pytest.approx(0.5)
    assert "make 50 % fewer errors" in sheets.finetuned_words(table)
    assert sheets.finetuned_short(table) == "50 % (50 to 50 %)"
    assert table.task.iloc[-1] == f"mean of {len(table) - 1} tasks"


def test_features_joined_with_imagenets(project):
    report = comparison()
    assert sheets.joined_words(report) == ""
    report["means"].append(report["means"][0] | {"arm": "ImageNet and ImageNet + galaxies, joined"})
    said = sheets.joined_words(report)
    assert said.endswith("learned galaxies from ImageNet's weights remove 50 % of the errors (20 to 60 %).")
