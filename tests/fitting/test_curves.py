import numpy as np
import pandas as pd
import published_laws as baselines
import pytest
from curves import bench_file, benchmark_curves, score_domain, win_shares
from published_laws import predict_published

from gzlib.errors import UserError
from gzlib.fitting.answers import fit, plan
from gzlib.fitting.curves import to_array
from gzlib.fitting.reading import read_curves
from gzlib.paths import ROOT

VISION = ROOT.parent / "shared" / "data" / "curves" / "benchmark.vision.csv"
needs_vision = pytest.mark.skipif(not VISION.exists(), reason="the public benchmark file is not here")


def plain_file(path, *, seeds=3):
    rng = np.random.default_rng(1)
    rows = [
        {
            "encoder": encoder,
            "n_train": n,
            "seed": seed,
            "loss": (floor + 0.3 * (n / 1e4) ** -0.4) * np.exp(0.005 * rng.standard_normal()),
        }
        for encoder, floor in (("small", 0.3), ("large", 0.2))
        for n in (300, 1000, 3000, 10000, 30000)
        for seed in range(seeds)
    ]
    pd.DataFrame(rows).to_csv(path, index=False)
    return path


def benchmark_file(path, *, domain="LM", noise=1e-4, n_curves=5):
    """Smooth, nearly noiseless curves in the benchmark's format, unlike the vision file; rows unsorted and doubled."""
    rng = np.random.default_rng(1)
    rows = []
    for i in range(n_curves):
        x = np.linspace(1e3, 4e4, 60)
        loss = (0.4 + 0.05 * i + 0.6 * (x / 1e3) ** -0.3) * np.exp(noise * rng.standard_normal(x.size))
        rows += [(domain, "lm", f"m{i}", a, b, int(a < 2e4)) for a, b in zip(x, loss, strict=True)] * 2
    table = pd.DataFrame(rows, columns=["Domain", "Task", "Model", "Seen Examples", "Loss", "Training"])
    table.sample(frac=1, random_state=0).to_csv(path, index=False)
    return path


@pytest.fixture(scope="module")
def vision_rows():
    return {row["name"]: row for row in bench_file(VISION)}


@pytest.mark.slow
@needs_vision
def test_published_laws_give_their_published_errors(vision_rows):
    for name, published in (("M1", 0.1046), ("M2", 0.0823), ("M3", 0.0615), ("M4", 0.0415)):
        assert vision_rows[f"curves.rmsle.{name}"]["value"] == pytest.approx(published, abs=6e-5), name


@needs_vision
def test_broken_law_gives_what_its_authors_found(vision_rows):
    assert vision_rows["curves.rmsle.BNSL"]["value"] == pytest.approx(0.0406, abs=0.0015)  # arXiv:2505.23032's table


@pytest.mark.slow
@needs_vision
def test_forecast_beats_the_published_methods_and_keeps_its_promise(vision_rows):
    assert vision_rows["curves.rmsle"]["value"] <= 0.0280 and vision_rows["curves.rmsle"]["ok"]
    assert 0.90 <= vision_rows["curves.coverage95"]["value"] <= 0.98 and vision_rows["curves.coverage95"]["ok"]
    assert vision_rows["curves.wins.ours"]["value"] > 50
    assert vision_rows["curves.msce"]["value"] < 0.005


def test_other_domains_run_with_the_same_settings(tmp_path, monkeypatch):
    monkeypatch.setattr(baselines, "MAX_ROUNDS", 500)
    rows = {row["name"]: row for row in bench_file(benchmark_file(tmp_path / "lm.csv"))}
    assert rows["curves.rmsle"]["value"] < 3e-3
    assert rows["curves.coverage95"]["value"] > 0.9
    shares = [rows[f"curves.wins.{name}"]["value"] for name in ("ours", "M1", "M2", "M3", "M4", "BNSL")]
    assert sum(shares) == pytest.approx(100)
    assert set(rows["curves.rmsle"]) == {"name", "value", "unit", "goal", "ok", "detail"}


def test_domains_are_scored_apart(tmp_path):
    first = pd.read_csv(benchmark_file(tmp_path / "a.csv", domain="LM"))
    second = pd.read_csv(benchmark_file(tmp_path / "b.csv", domain="BB", noise=0.01))
    pd.concat([first, second]).to_csv(tmp_path / "both.csv", index=False)
    rows = {row["name"]: row["value"] for row in bench_file(tmp_path / "both.csv", baselines=False)}
    assert rows["curves.LM.rmsle"] < rows["curves.BB.rmsle"]


def test_forecast_never_looks_at_the_held_out_losses(tmp_path):
    curves = benchmark_curves(read_curves(benchmark_file(tmp_path / "lm.csv")))
    honest = score_domain(curves, baselines=False)
    for curve in curves:
        curve["test"] = (curve["test"][0], curve["test"][1] * 2)
    shifted = score_domain(curves, baselines=False)
    np.testing.assert_allclose(shifted["width"], honest["width"])
    np.testing.assert_allclose(shifted["rmsle"]["ours"], np.log(2), rtol=0.01)


def test_published_laws_on_a_clean_offset_power_law(monkeypatch):
    monkeypatch.setattr(baselines, "MAX_ROUNDS", 1000)
    x = np.geomspace(1e6, 1e8, 40)
    curve = (x, 0.2 + 0.5 * (x / 1e6) ** -0.5)
    predictions = predict_published([curve], [np.array([2e8])])
    truth = 0.2 + 0.5 * 200**-0.5
    assert predictions["M2"][0][0] == pytest.approx(truth, rel=0.01)
    assert abs(predictions["M1"][0][0] / truth - 1) > 0.05


def test_win_shares_truncate_and_split_ties():
    shares = win_shares({"a": np.array([0.0101, 0.03, np.nan]), "b": np.array([0.0109, 0.02, 0.5])})
    assert shares == {"a": pytest.approx(100 / 6), "b": pytest.approx(250 / 3)}


def test_plain_file_to_array_and_tables(tmp_path):
    curves = read_curves(plain_file(tmp_path / "runs.csv"))
    loss = to_array(curves)
    assert loss.dims == ("curve", "n_train", "seed") and loss.shape == (2, 5, 3) and bool(loss.notnull().all())
    results = fit(loss, draws=0).results
    assert results["curve"].values.tolist() == ["large", "small"]
    assert bool((results["verdict"] == "identified").all())
    assert bool(((results["alpha_low"] < 0.4) & (results["alpha_high"] > 0.4)).all())
    needed = plan(loss, 0.45)
    assert needed["status"].values.tolist() == ["already reached", "forecast"]
    small = needed.sel(curve="small")
    assert small["labels_low"] < 1e4 * 2**2.5 < small["labels_high"] and small["largest"] == 30000


def test_refused_curves_stay_in_the_table(tmp_path):
    table = pd.read_csv(plain_file(tmp_path / "runs.csv"))
    table = table[(table.encoder == "small") | (table.n_train <= 1000)]
    table.to_csv(tmp_path / "short.csv", index=False)
    rows = fit(tmp_path / "short.csv", draws=0).table(rounded=False)
    assert rows["verdict"][0] == "not identified" and "2 distinct" in rows["reason"][0] and np.isnan(rows["alpha"][0])
    assert "large: not identified: 2 distinct" in str(fit(tmp_path / "short.csv", draws=0))


def test_file_without_seeds_or_labels_is_one_curve(tmp_path):
    (tmp_path / "bare.csv").write_text("n_train,loss\n100,0.9\n100,0.88\n1000,0.6\n10000,0.4\n")
    curves = read_curves(tmp_path / "bare.csv")
    assert set(curves["curve"]) == {"curve"} and list(curves["seed"]) == [0, 1, 0, 0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("width,loss\n1,2\n", "no column 'n_train'.*found: width, loss"),
        ("n_train,loss\n", "header but no rows"),
        ("n_train,loss\n100,0.5\n200,-0.1\n", "line 3: loss is .*-0.1"),
        ("n_train,loss\n100,abc\n", "line 2: loss is 'abc'"),
        ("n_train,loss,seed\n100,0.5,1\n100,0.6,1\n", "two runs with n_train 100 and seed 1"),
        ("Domain,Task,Model,Seen Examples,Loss,Training\nIC,a,b,1,0.5,2\n", "line 2: Training is .2.; it must be 1"),
        ("", "cannot be read as CSV"),
    ],
)
def test_bad_files_are_explained_in_one_sentence(tmp_path, text, message):
    path = tmp_path / "bad.csv"
    path.write_text(text)
    with pytest.raises(UserError, match=message) as caught:
        read_curves(path)
    assert str(path) in str(caught.value)


def test_missing_file_and_file_without_held_out_points(tmp_path):
    with pytest.raises(UserError, match="There is no file"):
        read_curves(tmp_path / "none.csv")
    with pytest.raises(UserError, match="held-out"):
        bench_file(plain_file(tmp_path / "runs.csv"))
