"""Learning curves as people have them: each file has one right reading, or is refused with a cure."""

import io
import json
import re

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import gzlib as gz
from gzlib.errors import UserError
from gzlib.fitting.reading import as_array, read_curves

SIZES, LOSSES = [250, 500, 1000, 2000], [0.5, 0.4, 0.33, 0.29]
PLAIN = "n_train,loss\n250,0.5\n500,0.4\n1000,0.33\n2000,0.29\n"


def written(folder, text, name="curves.csv", encoding="utf-8"):
    (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode(encoding))
    return folder / name


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (PLAIN, ""),
        (PLAIN.replace(",", ", "), ""),
        (PLAIN.replace(",", "\t"), ""),
        (PLAIN.replace(",", "   "), ""),
        (PLAIN.replace("\n", "\r\n"), ""),
        (PLAIN.replace("\n", "\r"), ""),
        ("\ufeff" + PLAIN, ""),
        ("sep=;\n" + PLAIN.replace(",", ";"), ""),
        ("# pilot of May\n\n" + PLAIN + "# end\n", ""),
        ("# n_train loss\n250 0.5\n500 0.4\n1000 0.33\n2000 0.29\n", ""),
        ("# samples,error\n250,0.5\n500,0.4\n1000,0.33\n2000,0.29\n", ""),
        (PLAIN.replace("\n", ",\n"), ""),
        ("n_train,loss\n250,0.5,,\n500,0.4,,\n1000,0.33,,\n2000,0.29,,\n", ""),
        ("| n_train | loss |\n|---:|---:|\n| 250 | 0.5 |\n| 500 | 0.4 |\n| 1000 | 0.33 |\n| 2000 | 0.29 |\n", ""),
        (PLAIN.replace(",", ";").replace(".", ","), "decimal commas"),
        (PLAIN.replace(",", "\t").replace(".", ","), "decimal commas"),
        ('n_train,loss\n250,"0,5"\n500,"0,4"\n1000,"0,33"\n2000,"0,29"\n', "decimal commas"),
        ("n_train;loss\n250;0,5\n500;0,4\n1.000;0,33\n2.000;0,29\n", "1.000 is read as 1000"),
        ("n_train;loss\n250;0,500\n500;0,400\n1000;0,330\n2000;0,290\n", "decimal commas"),
        ('n_train,loss\n250,0.5\n500,0.4\n"1,000",0.33\n"2,000",0.29\n', "1,000 is read as 1000"),
        ("n_train,loss\n250,0.5\n500,0.4\n1_000,0.33\n2_000,0.29\n", "1_000 is read as 1000"),
        ("n_train;loss\n250;0.5\n500;0.4\n1 000;0.33\n2 000;0.29\n", "1 000 is read as 1000"),
        ("n_train,loss\n250,0.5\n500,0.4\n1k,0.33\n2k,0.29\n", "1k is read as 1000"),
        ("n_train,loss\n0.25k,0.5\n0.5k,0.4\n1k,0.33\n2k,0.29\n", "0.25k is read as 250"),
        ("250,0.5\n500,0.4\n1000,0.33\n2000,0.29\n", "no header"),
        (",n_train,loss\n0,250,0.5\n1,500,0.4\n2,1000,0.33\n3,2000,0.29\n", ""),
        ("n,accuracy\n250,0.5\n500,0.6\n1000,0.67\n2000,0.71\n", "1 - accuracy"),
        ("samples,val_acc\n250,.5\n500,.6\n1000,.67\n2000,.71\n", "1 - val_acc"),
        ("size,error\n250,5e-1\n500,4E-1\n1e3,0.33\n2000,0.29\n", ""),
        ("Seen Examples,Test error\n250,0.5\n500,0.4\n1000,0.33\n2000,0.29\n", ""),
        ("n,train_score,test_error,test_std\n250,1,.5,.1\n500,1,.4,.1\n1000,1,.33,.1\n2000,1,.29,0\n", "not used"),
        ("n_train,loss,accuracy\n250,0.5,0.6\n500,0.4,0.7\n1000,0.33,0.8\n2000,0.29,0.9\n", "not used: accuracy"),
        ("n_train,loss,seconds\n250,0.5,1.25\n500,0.4,2.5\n1000,0.33,5.1\n2000,0.29,9.7\n", "not used: seconds"),
        ("n_train,loss,lr\n250,0.5,0.1\n500,0.4,0.1\n1000,0.33,0.1\n2000,0.29,0.1\n", ""),
        ("n_train,resnet\n250,0.5\n500,0.4\n1000,0.33\n2000,0.29\n", "'resnet' is taken as the loss"),
        ("model,250,500,1000,2000\nresnet,0.5,0.4,0.33,0.29\n", "named by sizes"),
        (PLAIN + PLAIN.split("\n", 1)[1], "each row stands 2 times"),
        ("n_train,loss\n250,0.5\n500,0.4\n1000,0.33\n2000,0.29\n4000,\n", "1 of 5 rows have no loss"),
    ],
)  # fmt: skip
def test_one_curve_in_many_dresses(tmp_path, text, said):
    curves = read_curves(written(tmp_path, text))
    np.testing.assert_allclose(curves["n_train"], SIZES)
    np.testing.assert_allclose(curves["loss"], LOSSES)
    notes = " ".join(curves.attrs["notes"])
    assert said in notes and bool(said) == bool(notes)


@pytest.mark.parametrize(
    ("name", "encoding"),
    [
        ("a.csv", "utf-16"),
        ("b.csv", "cp1252"),
        ("c.txt", "utf-8-sig"),
        ("d.csv", "utf-16-le"),
        ("e.csv", "utf-16-be"),
        ("f.csv", "utf-32"),
    ],
)
def test_what_spreadsheets_save(tmp_path, name, encoding):
    curves = read_curves(written(tmp_path, PLAIN.replace("loss", "loss (größe)"), name, encoding))
    np.testing.assert_allclose(curves["loss"], LOSSES)


def test_percent_stays_percent(tmp_path):
    curves = read_curves(written(tmp_path, "n,accuracy\n250,50%\n500,60 %\n1000,67%\n2000,71%\n"))
    np.testing.assert_allclose(curves["loss"], [50, 40, 33, 29])
    assert "100 - accuracy" in curves.attrs["notes"][0]


@pytest.mark.parametrize(
    ("text", "curves", "runs"),
    [
        ("n_params,n_train,loss\n1e5,250,.7\n1e5,500,.5\n1e7,250,.9\n1e7,500,.6\n", ["1e5", "1e7"], 1),
        ("n_train,loss,width,seed\n250,.7,8,0\n500,.5,8,0\n250,.9,16,0\n500,.6,16,0\n250,.71,8,1\n500,.51,8,1\n"
         "250,.91,16,1\n500,.61,16,1\n", ["16", "8"], 2),
        ("n_train,resnet,vit\n250,0.5,0.6\n500,0.4,0.45\n1000,0.33,0.4\n", ["resnet", "vit"], 1),
        ("n_train,resnet18,resnet50\n250,0.5,0.6\n500,0.4,0.45\n1000,0.33,0.4\n", ["resnet18", "resnet50"], 1),
        ("n_train,0,1\n250,0.5,0.6\n500,0.4,0.45\n1000,0.33,0.4\n", ["curve"], 2),
        ("n_train,loss_0,loss_1,loss_2\n250,0.5,0.6,.7\n500,0.4,0.45,.5\n1000,0.33,0.4,.45\n", ["curve"], 3),
        ("n,acc_seed0,acc_seed1\n250,0.5,0.6\n500,0.6,0.65\n1000,0.73,0.74\n", ["curve"], 2),
        ("encoder,seed,100,200,400\na,0,.5,.4,.3\na,1,.6,.5,.4\nb,0,.6,.5,.4\nb,1,.7,.6,.5\n", ["a", "b"], 2),
        ("curve,n_train,loss\nresnet,250,.5\nresnet ,500,.4\n resnet,1000,.3\n", ["resnet"], 1),
        ("n_train,loss,fold,repeat\n250,.5,0,0\n250,.6,1,0\n250,.55,0,1\n250,.65,1,1\n", ["curve"], 4),
        ("model,n,loss\nNone,250,.5\nNone,500,.4\n,250,.6\n,500,.5\n", ["(blank)", "None"], 1),
    ],
)  # fmt: skip
def test_curves_and_runs_are_told_apart(tmp_path, text, curves, runs):
    table = read_curves(written(tmp_path, text))
    assert sorted(table["curve"].unique()) == curves
    assert (table.groupby(["curve", "n_train"]).size() == runs).all()


def test_blank_seeds_drop_no_runs(tmp_path):
    table = read_curves(written(tmp_path, "n_train,loss,seed\n250,.5,0\n250,.52,\n250,.51,NA\n500,.4,0\n500,.41,\n"))
    assert len(table) == 5 and not table.duplicated(["n_train", "seed"]).any()
    assert "3 rows without a seed" in table.attrs["notes"][0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seed,n_train,loss\n0,250,0.5,0.61\n", "line 2: 4 cells where the header has 3 columns"),
        ("# a comment\n\nseed,n_train,loss\n0,250,0.5\n1,250\n", "line 5: 2 cells where the header has 3"),
        ("n_train,loss\n250,0.5\n500,0.0\n", "line 3: loss is '0.0'"),
        ("n_train,loss\n250,0.5\n-500,0.4\n", "line 3: n_train is '-500'"),
        ("n_train,loss\n250,inf\n500,0.4\n", "line 2: loss is 'inf'"),
        ("n,accuracy\n250,0.5\n500,1.0\n", "line 3: accuracy is '1.0'; 1 - it is not a positive"),
        ("n,accuracy\n250,120\n500,1.0\n", "120, but its best value is 1"),
        ("n_train,loss\n250,0.5\n500,0.6\n1000,0.7\n", "rises with n_train .*accuracy.*--accuracy-column loss"),
        ("n_train,loss,epochs\n250,0.5,8\n250,0.4,9\n500,0.3,8\n", "'epochs' differs along a curve.*--curve-column"),
        ("n_train,error,mse\n250,0.5,8\n500,0.4,9\n", "'error' and 'mse' could each be the loss.*--loss-column"),
        ("n,samples,loss\n250,250,8\n500,500,9\n", "'n' and 'samples' could each be the size.*--size-column"),
        ("n,score\n250,.5\n500,.4\n", "rise or fall"),
        ("n,a,b\n250,.5,.1\n500,.6,.2\n1000,.7,.3\n", "rise with the size: are they accuracies"),
        ("n_train;loss\n250;0,5\n500;0.4\n", "both decimal points and decimal commas"),
        ("n_train,loss\n250,0.5\n500,0.4\n1.000,0.33\n", "'1.000' can be read as 1000 or as 1.000"),
        ("n_train;loss\n1000;2,345\n2000;1,234\n", "'2,345' can be read as 2345 or as 2.345"),
        ("n_train,loss,loss\n250,1,1\n", "'loss' appears twice"),
        ("1,2,3\n4,5,6\n", "no header"),
        (b"PK\x03\x04abc", "a workbook or archive"),
        (b"n\x00,loss\n1,2\n", "NUL"),
        ("size,when\nx,y\n", "no column 'loss'"),
    ],
)  # fmt: skip
def test_what_has_no_single_reading_is_refused_with_a_cure(tmp_path, text, message):
    path = written(tmp_path, text)
    with pytest.raises(UserError, match=message) as caught:
        read_curves(path)
    assert str(path) in str(caught.value)


def test_columns_can_be_named(tmp_path):
    path = written(tmp_path, "a,b,c,d,e\n250,.5,1,x,7\n500,.6,1,x,9\n250,.4,2,x,8\n500,.5,2,x,6\n")
    table = read_curves(path, size="a", accuracy="b", curve="c", ignore=["e"])
    np.testing.assert_allclose(table["loss"], [0.5, 0.4, 0.6, 0.5])
    assert list(table["curve"]) == ["1", "1", "2", "2"]
    assert list(read_curves(path, size="a", accuracy="b", seed="c", ignore="e")["seed"]) == [1, 2, 1, 2]
    with pytest.raises(UserError, match="no column 'z'"):
        read_curves(path, size="z")


def test_json_and_frames(tmp_path, monkeypatch):
    runs = [{"n_train": n, "loss": y, "seed": s} for n, y in zip(SIZES, LOSSES, strict=True) for s in (0, 1)]
    lines = "\n".join(map(json.dumps, runs))
    frame = pd.DataFrame(runs)
    expected = read_curves(frame)
    for source in (
        written(tmp_path, json.dumps(runs), "a.json"),
        written(tmp_path, json.dumps({"runs": runs}), "b.json"),
        written(tmp_path, lines, "c.jsonl"),
        frame.set_index(["n_train", "seed"]),
        frame.astype({"seed": "Int64", "n_train": "int32"}),
    ):
        pd.testing.assert_frame_equal(
            read_curves(source)[["n_train", "loss", "seed"]], expected[["n_train", "loss", "seed"]]
        )
    wide = pd.DataFrame({"resnet": LOSSES, "vit": LOSSES}, index=SIZES)
    assert list(read_curves(wide)["curve"].unique()) == ["resnet", "vit"]
    np.testing.assert_allclose(read_curves(pd.Series(LOSSES, index=SIZES))["loss"], LOSSES)
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(PLAIN.encode())))
    np.testing.assert_allclose(read_curves("-")["loss"], LOSSES)
    with pytest.raises(UserError, match="nested"):
        read_curves(written(tmp_path, '[{"n_train": [1, 2], "loss": 1}]', "d.json"))
    with pytest.raises(UserError, match="cannot be read as JSON"):
        read_curves(written(tmp_path, "{", "e.json"))


def test_what_is_no_file_of_curves(tmp_path):
    with pytest.raises(UserError, match="cannot be read"):
        read_curves(tmp_path)
    with pytest.raises(UserError, match="not a regular file"):
        read_curves("/dev/zero")


@pytest.mark.parametrize(
    "text", [",,,\n", ",\n,\n", "|---|---|\n", '""\n', ";;\n", "\t\t\n,\n", "sep=,\n", "sep=,\n,,\n", "# a\n,,\n"]
)
def test_a_file_of_delimiters_alone_is_empty(tmp_path, text):
    """Found by the fuzzer."""
    with pytest.raises(UserError, match="it is empty|no rows"):
        read_curves(written(tmp_path, text))


@pytest.mark.parametrize("comment", ["# ,,", "#", "% ||", "//"])
def test_a_comment_of_delimiters_alone_is_no_header(tmp_path, comment):
    found = read_curves(written(tmp_path, f"{comment}\n" + PLAIN.partition("\n")[2]))
    assert np.asarray(found.n_train).tolist() == SIZES


def exported(header, *cells):
    """Text of a table with a header and, for each size, cells in which {n}, {y} and {i} stand for size, loss, row."""
    rows = ([cell.format(n=n, y=y, i=i, a=round(1 - y, 2)) for cell in cells] for i, (n, y) in enumerate(PAIRS))
    return "\n".join([header, *(",".join(row) for row in rows)]) + "\n"


PAIRS = list(zip(SIZES, LOSSES, strict=True))
WANDB = '"Name","State","Created","Runtime","Sweep","n_train","seed","val_loss","val_loss__MIN"'
MLFLOW = "run_id,experiment_id,status,artifact_uri,start_time,metrics.val_loss,params.n_train,tags.mlflow.user"


@pytest.mark.fault("curves: exports of other programs", "read")
@pytest.mark.parametrize(
    "text",
    [
        exported(WANDB, '"run-{i}"', '"finished"', '"2026-05-0{i}"', '"10{i}"', "", "{n}", "0", "{y}", "{y}"),
        exported('"Step","n_train","resnet - val_loss","resnet - val_loss__MAX"', "{i}", "{n}", "{y}", "{y}"),
        exported(MLFLOW, "ab{i}", "0", "FINISHED", "file:///x", "2026-01-0{i}", "{y}", "{n}", "me"),
        exported("Run ID,Name,Start Time,Duration,n_train,test_error", "a{i}", "calm-{i}", "d", "{i}min", "{n}", "{y}"),
        exported("train_sizes,train_scores_mean,test_scores_mean,test_scores_std", "{n}", "1", "{a}", "0"),
        exported("train_sizes,test_neg_log_loss", "{n}", "-{y}"),
        exported("n_train,log_likelihood", "{n}", "-{y}"),
        exported("config.n_train,config.lr,summary.test/loss,summary._runtime", "{n}", ".1", "{y}", "1{i}"),
        exported("step,n_train,loss", "1{n}", "{n}", "{y}") + exported("", "1{n}", "{n}", "{y}").lstrip(),
    ],
)  # fmt: skip
def test_what_programs_that_track_runs_export(tmp_path, text):
    table = read_curves(written(tmp_path, text))
    assert list(table["curve"].unique()) == ["curve"]
    np.testing.assert_allclose(table["n_train"], SIZES)
    np.testing.assert_allclose(table["loss"], LOSSES)


@pytest.mark.fault("curves: numbers as people write them", "read")
@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("tokens,loss\n0.25B,.5\n0.5b,.4\n1B,.33\n2G,.29\n", "B for billions"),
        ("tokens,loss\n250m,.5\n0.5B,.4\n1000M,.33\n0.002T,.29\n", "m for millions"),
        ("n,loss\n250,0.50 ± 0.02\n500,0.40 ± .02\n1000,.33±.01\n2000,.29 ± .01\n", "0.50 ± 0.02 is read as 0.50"),
        ("n,loss\n250,0.5+/-0.02\n500,0.4+-.02\n1000,.33 (0.01)\n2000,.29(1)\n", "0.5+/-0.02 is read as 0.5"),
        ("n,accuracy (%)\n250,0.5\n500,.6\n1000,1.67\n2000,1.71\n", "100 - accuracy (%)"),
        ("'n_train','loss'\n'250','0.5'\n500,.4\n1000,.33\n2000,.29\n", ""),
        ("n_train (k),loss\n0.25,.5\n.5,.4\n1,.33\n2,.29\n", "multiplied by 1,000"),
        ("tokens in millions,ppl\n250,.5\n500,.4\n1000,.33\n2000,.29\n", "multiplied by 1,000,000"),
        ("# images,mAP\n250,.5\n500,.6\n1000,.67\n2000,.71\n", "1 - mAP"),
        ("n,R^2\n250,.5\n500,.6\n1000,.67\n2000,.71\n", "1 - R^2"),
        ("training set size / galaxies,test loss / nats\n250,0.5\n500,.4\n1000,.33\n2000,.29\n", ""),
    ],
)  # fmt: skip
def test_numbers_as_people_write_them(tmp_path, text, said):
    table = read_curves(written(tmp_path, text))
    factor = table["n_train"].max() / 2000
    np.testing.assert_allclose(table["n_train"], np.multiply(SIZES, factor))
    wanted = [99.5, 99.4, 98.33, 98.29] if "%" in text else LOSSES
    np.testing.assert_allclose(table["loss"], wanted)
    assert said in " ".join(table.attrs["notes"])


@pytest.mark.fault("curves: tables in text, and text around tables", "read")
@pytest.mark.parametrize(
    "text",
    [
        "My pilot of May\n" + PLAIN,
        "My pilot of May,\n,\n" + PLAIN,
        "# Results\n\nSome, text; here.\n\n| n_train | loss |\n|---|---|\n| 250 | **0.5** |\n| 500 | *0.4* |\n"
        "| 1000 | `0.33` |\n| 2000 | 0.29 |\n\nMore text\n",
        "n_train | loss\n--- | ---\n250 | 0.5\n500 | 0.4\n1000 | .33\n2000 | .29\n",
        "+------+------+\n| n    | loss |\n+======+======+\n| 250  | 0.5  |\n+------+------+\n| 500  | 0.4  |\n"
        "| 1000 | .33  |\n| 2000 | .29  |\n+------+------+\n",
        "n_train,loss\n250,.5\n500,.4\nn_train,loss\n1000,.33\n2000,.29\n",
        "n_train,250,500,1000,2000\nloss,.5,.4,.33,.29\n",
        "n_train,250,500,1000,2000\naccuracy,.5,.6,.67,.71\n",
        "seed,n=250,n=500,n=1000,n=2000\n0,.5,.4,.33,.29\n",
        "\\begin{tabular}{lrr}\n\\toprule\nmodel & n & error \\\\\n\\midrule\nA & 250 & 0.5 \\\\\n"
        "A & $500$ & 0.4\\\\ \\hline\nA & 1000 & 0.33 \\\\\nA & 2000 & 0.29 \\\\\n\\end{tabular}\n",
        PLAIN + "\x1a",
    ],
)  # fmt: skip
def test_tables_in_text(tmp_path, text):
    table = read_curves(written(tmp_path, text, "curves.md"))
    np.testing.assert_allclose(table["n_train"], SIZES)
    np.testing.assert_allclose(table["loss"], LOSSES)


@pytest.mark.fault("curves: shapes of JSON", "read")
@pytest.mark.parametrize("name", ["curves.json", "curves.csv", "-"])
@pytest.mark.parametrize(
    "content",
    [
        {"n_train": SIZES, "loss": LOSSES},
        {"model": "resnet", "train_sizes": SIZES, "test_scores": [[1 - y] for y in LOSSES]},
        [SIZES, LOSSES],
        PAIRS,
        [["n_train", "loss"], *PAIRS],
        dict(PAIRS),
        {n: {"loss": y, "epochs": 3} for n, y in PAIRS},
        {"resnet": dict(PAIRS)},
        {"resnet": {"n_train": SIZES, "loss": LOSSES}},
        {"resnet": [{"n": n, "loss": y} for n, y in PAIRS], "vit": [{"n": n, "loss": 2 * y} for n, y in PAIRS]},
        {"name": "pilot", "runs": [{"n_train": n, "loss": y} for n, y in PAIRS]},
        [{"config": {"n_train": n, "lr": 1}, "metrics": {"train": {"loss": 1}, "test": {"loss": y}}} for n, y in PAIRS],
        *(json.loads(pd.DataFrame(PAIRS, columns=["n_train", "loss"]).to_json(orient=how))
          for how in ("split", "table", "index", "columns", "records", "values")),
    ],
)  # fmt: skip
def test_shapes_of_json(tmp_path, monkeypatch, content, name):
    text = json.dumps(content)
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
    table = read_curves("-" if name == "-" else written(tmp_path, text, name))
    first = table[table["curve"] != "vit"]
    np.testing.assert_allclose(first["n_train"], SIZES)
    np.testing.assert_allclose(first["loss"], LOSSES)


@pytest.mark.fault("curves: wide tables", "read")
@pytest.mark.parametrize(
    ("header", "metric"),
    [("n,resnet_acc,vit_acc", "1 - accuracy"), ("n,acc_resnet,acc_vit", "1 - accuracy"), ("n,A error,B error", "loss"),
     ("step,n,a - val_loss,b - val_loss", "loss")],
)  # fmt: skip
def test_wide_tables_whose_columns_name_a_metric(tmp_path, header, metric):
    value, step = ("{a}", []) if "acc" in header else ("{y}", ["{i}"] if "step" in header else [])
    table = read_curves(written(tmp_path, exported(header, *step, "{n}", value, value)))
    assert table["curve"].nunique() == 2 and table.attrs["metric"] == metric
    np.testing.assert_allclose(table["loss"], LOSSES * 2)


@pytest.mark.fault("curves: no single reading", "refused in one sentence")
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("n_train,loss\n10%,.5\n20%,.4\n", "line 2: n_train is '10%': give the number of training examples"),
        ("n_train,loss\n,.5\n20,.4\n", "line 2: n_train is blank"),
        ("n_train,loss\n100,-.5\n200,-.4\n", "of a log-likelihood give its negative"),
        ("n,accuracy\n100,.5\n200,1\n", "leave the row out"),
        ("n,accuracy (%)\n100,.5\n200,.6\n", "in percent by its name and 0.6 at most"),
        ("n,loss\n100,5e-41\n200,4e-41\n", "about 5e-41: give them in a unit nearer to 1"),
        ("n,loss\n100,5e37\n200,4e37\n", "give them in a unit nearer to 1"),
        ("| n | loss |\n|--|--|\n| 1 | 2 |\n\n| n | acc |\n|--|--|\n| 1 | .2 |\n", "2 tables .the second in line 5"),
        ('{"n_train": 3, "loss": 2}', "one value for each name"),
        ('[{"n_train": ' + "9" * 400 + ', "loss": 1}]', "…; it must be a positive number"),
        ("null\n", "not a list of runs|no rows"),
        ('n_train,loss,model\n100,.5,"a\n200,.4,b\n', "line 2: a quotation mark is never closed"),
        ("n_train,loss,model\n100,.5," + "x" * 200_000 + "\n", "line 2, cannot be read as CSV .field larger"),
        ("<!DOCTYPE html><table></table>", "a web page"),
        ("n,something\n100,.5\n200,.6\n", "its column something rises with the size: is it an accuracy"),
    ],
)  # fmt: skip
def test_what_else_has_no_single_reading(tmp_path, text, message):
    with pytest.raises(UserError, match=message) as caught:
        read_curves(written(tmp_path, text, "a.json" if text.startswith(("{", "[", "null")) else "a.csv"))
    assert len(str(caught.value)) < 400 + len(str(tmp_path))


def test_a_mistyped_column_is_told_with_the_nearest(tmp_path):
    with pytest.raises(UserError, match="no column 'los' .did you mean 'loss'"):
        read_curves(written(tmp_path, PLAIN), loss="los")


def test_what_was_read_is_said_once(tmp_path):
    """However often a column is looked at before it is known what it is."""
    table = read_curves(written(tmp_path, "n,resnet,vit\n1k,0.5,0.6\n2k,0.4,0.45\n4k,0.33,0.4\n"))
    assert len(table.attrs["notes"]) == len(set(table.attrs["notes"])) == 2


def test_names_of_runs_make_no_curves_and_no_memory():
    """A seed that is another for each run pairs nothing: one row of the array holds all runs of a size."""
    runs = pd.DataFrame({"run_id": [f"r{i}" for i in range(3000)], "n_train": np.repeat(SIZES, 750), "loss": 0.5})
    assert as_array(runs).shape == (4, 750)


@pytest.mark.fault("curves: in Python", "read")
@pytest.mark.parametrize(
    "data",
    [
        (SIZES, LOSSES), [SIZES, LOSSES], PAIRS, np.array(PAIRS), np.array(PAIRS).T, dict(PAIRS), PLAIN, PLAIN.encode(),
        io.StringIO(PLAIN), [{"n": n, "error": y} for n, y in PAIRS],
        pd.Series(LOSSES, index=list(map(str, SIZES))),
        pd.Series(1 - np.array(LOSSES), index=SIZES, name="accuracy"),
        pd.DataFrame({("loss", "mean"): LOSSES, ("loss", "std"): 0.1}, index=pd.Index(SIZES, name="n_train")),
        pd.DataFrame({"n": SIZES, "loss": LOSSES, "model": pd.Categorical(["a"] * 4)}),
        xr.DataArray(LOSSES, {"n_train": list(map(str, SIZES))}, "n_train"),
        xr.DataArray(LOSSES[::-1], {"n_train": SIZES[::-1]}, "n_train")[::-1],
        xr.DataArray(1 - np.array(LOSSES), {"n_train": SIZES}, "n_train", name="accuracy"),
        xr.Dataset({"val_acc": ("n_train", 1 - np.array(LOSSES)), "seconds": ("n_train", SIZES)}, {"n_train": SIZES}),
        (np.ma.masked_array([*SIZES, 4000]), np.ma.masked_array([*LOSSES, 9.0], [0, 0, 0, 0, 1])),
    ],
)  # fmt: skip
def test_curves_as_python_has_them(data):
    array = as_array(data)
    np.testing.assert_allclose(np.ravel(array), LOSSES)
    np.testing.assert_allclose(array["n_train"].astype(float), SIZES)


@pytest.mark.fault("curves: in Python", "refused in one sentence")
@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([(250, 0.5), (500, 0.4)], "no sizes and losses to read"),
        ([[250, 500], [0.5, 0.4]], "Two pairs of numbers"),
        ({"n_train": 100, "loss": 0.5}, "one value for each name"),
        ((SIZES, np.array(LOSSES) + 1j), "complex"),
        ((SIZES, [True] * 4), "bool"),
        ((np.array(SIZES, "datetime64[D]"), LOSSES), "datetime"),
        (([], []), r"shape \(0,\)"),
        ((SIZES, [np.nan] * 4), "No loss is a number"),
        (pd.DataFrame(), "no rows"),
        (pd.DataFrame({"n": SIZES, "loss": True}), "bool values"),
        (xr.DataArray(LOSSES, {"n_train": [100, 100, 200, 200]}, "n_train"), "stands 2 times"),
        (xr.DataArray(LOSSES, {"n_train": [0, 100, 200, 300]}, "n_train"), "0 is not"),
        (xr.DataArray(LOSSES, {"n_train": np.array(SIZES, "datetime64[s]")}, "n_train"), "must be numbers"),
        (xr.DataArray(LOSSES[::-1], {"n_train": SIZES}, "n_train"), "rises with n_train .*rename.'accuracy'"),
        (xr.DataArray(np.zeros(4), {"n_train": SIZES}, "n_train"), "at n_train=250 is 0"),
        (xr.DataArray(LOSSES, {"n_train": SIZES}, "n_train")[:0], "no losses"),
        (xr.Dataset({"a": 1, "b": 2}), "no variable 'loss'"),
        ("", "blank"), ("https://example.org/a.csv", "download it"),
    ],
)  # fmt: skip
def test_what_python_has_and_no_curve_is(data, message):
    with pytest.raises(UserError, match=message):
        as_array(data)


@pytest.mark.parametrize("losses", [(4e-4, 6e-4, 8e-4, 1e-3), (2.1, 2.2, 2.4, 2.5), (0.3, 0.3001, 0.3002, 0.3003)])
def test_a_loss_that_rises_and_is_no_accuracy_is_read(losses):
    curve = xr.DataArray(list(losses), {"n_train": SIZES}, "n_train")
    np.testing.assert_allclose(np.ravel(as_array(curve)), losses)
    named = xr.DataArray(LOSSES[::-1], {"n_train": SIZES}, "n_train", name="error")
    np.testing.assert_array_equal(as_array(named), LOSSES[::-1])
    noisy = xr.DataArray([0.93, 0.95, 0.96, 0.99], {"n_train": SIZES}, "n_train")  # by chance, of a flat curve
    assert as_array(noisy).max() == 0.99
    text = "n_train,loss\n" + "".join(f"{size},{loss}\n" for size, loss in zip(SIZES, losses, strict=True))
    assert len(read_curves(io.StringIO(text))) == len(SIZES)


def test_an_option_that_turns_accuracies_reaches_every_kind_of_input():
    rising = 1 - np.array(LOSSES)
    array = xr.DataArray(rising, {"n_train": SIZES}, "n_train")
    for data in ((SIZES, rising), list(zip(SIZES, rising, strict=True)), array):
        np.testing.assert_allclose(np.ravel(as_array(data, accuracy="loss")), LOSSES)
    with pytest.raises(UserError, match="size= names a column of a table"):
        as_array(xr.DataArray(LOSSES, {"n_train": SIZES}, "n_train"), size="n")


def test_a_quotation_mark_that_is_open_although_their_number_is_even(tmp_path):
    """Found by fuzzing."""
    (tmp_path / "a.csv").write_bytes(b'n_train&loss\n1&2\n."&&0&&&\xda&&\x1d&"\xff\xff&&')
    with pytest.raises(UserError, match="line 3: a quotation mark is never closed"):
        read_curves(tmp_path / "a.csv")


def test_columns_that_are_curves_beside_a_blank_loss(tmp_path):
    """Found by fuzzing: names of columns that the reading adds may be the table's own."""
    file = tmp_path / "curves.csv"
    file.write_text("column,n_train,resnet,vit,loss\na,3,.5,.6,\na,4,.4,.5,\na,5,.3,.4,\n")
    runs = read_curves(file)
    assert sorted(runs.loss) == [0.3, 0.4, 0.4, 0.5, 0.5, 0.6] and runs.curve.nunique() == 2
    file.write_bytes(b"n_train,s\xff\xffeed,loss\n100,0,")
    with pytest.raises(UserError, match="line 2: s.+eed is '0'; it must be a positive number"):
        read_curves(file)


def test_a_row_without_anything_beside_rows_with_seeds(tmp_path):
    """Found by fuzzing: a row that is left out has no place among the seeds either."""
    text = "n_train,seed,loss,encoder\n100,0,nan,e\nnan,nan,nan,e\n400,0,.83,e\n800,1,.62,e\n1600,0,.5,e\n3200,1,.4,e\n"
    assert read_curves(written(tmp_path, text)).n_train.tolist() == [400, 800, 1600, 3200]


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_the_name_of_a_column_may_hold_a_line_break(tmp_path, delimiter):
    """As Excel writes it, with the line ends of any system."""
    rows = ['"n\ntrain"|"loss\n[nats]"', "100|0.5", "200|0.4", "400|0.33"]
    for end in ("\n", "\r\n", "\r"):
        file = tmp_path / "own.csv"
        file.write_bytes("\n".join(rows).replace("|", delimiter).replace("\n", end).encode())
        array = as_array(file)
        assert array.n_train.values.tolist() == [100, 200, 400] and array.values.ravel().tolist() == [0.5, 0.4, 0.33]


FIRST, SECOND = "100 .5\n200 .4\n400 .3\n", "100 .6\n200 .5\n400 .45\n"


@pytest.mark.fault("curves: blocks between blank lines", "read")
@pytest.mark.parametrize(
    ("text", "curves", "said"),
    [
        ("n loss\n" + FIRST + "\n\n" + SECOND, {"index 0": 1, "index 1": 1}, "are taken as curves: index 0, index 1"),
        ("# n loss\n" + FIRST + "\n\n# n loss\n" + SECOND, {"index 0": 1, "index 1": 1}, "curves: index 0, index 1"),
        (FIRST + "\n\n" + SECOND + "\n\n\n", {"index 0": 1, "index 1": 1}, "curves: index 0, index 1"),
        ("# n loss\n# resnet\n" + FIRST + "\n# vit\n" + SECOND, {"resnet": 1, "vit": 1}, "curves: resnet, vit"),
        ("# a\n# n loss\n" + FIRST + "\n\n# b\n# n loss\n" + SECOND, {"a": 1, "b": 1}, "curves: a, b"),
        ("n loss\n# seed 0\n" + FIRST + "\n# seed 1\n" + SECOND, {"curve": 2}, "runs .seeds. of one curve: seed 0"),
        ("n,loss\n100,.5\n200,.4\n,\n,\n100,.6\n200,.5\n", {"index 0": 1, "index 1": 1}, "index 0, index 1"),
        ("n seed loss\n1 0 .5\n2 0 .4\n\n\n1 0 .6\n2 0 .5\n", {"index 0": 1, "index 1": 1}, "index 0, index 1"),
        ("## A\n\n| n | loss |\n|---|---|\n| 1 | .5 |\n| 2 | .4 |\n\n"
         "## B\n\n| n | loss |\n|---|---|\n| 1 | .6 |\n| 2 | .5 |\n", {"A": 1, "B": 1}, "curves: A, B"),
        (("n loss\n" + FIRST + "\n\n" + SECOND).replace("\n", "\n\n"), {"index 0": 1, "index 1": 1}, "as curves"),
        # two data sets, whose segments are runs
        ("n loss\n" + FIRST + "\n" + SECOND + "\n\n" + FIRST + "\n" + SECOND, {"index 0": 2, "index 1": 2}, "index 0"),
        # none of these has blocks
        ("n loss\n\n\n" + FIRST + "\n\n\n", {"curve": 1}, ""),
        (("n loss\n" + FIRST + SECOND).replace("\n", "\n\n"), {"curve": 2}, ""),
        ("n loss\n100 .5\n100 .6\n\n200 .4\n200 .5\n\n\n400 .3\n400 .45\n", {"curve": 2}, ""),
        ("n loss model\n100 .5 A\n200 .4 A\n\n100 .6 B\n200 .5 B\n", {"A": 1, "B": 1}, ""),
        ("n seed loss\n100 0 .5\n200 0 .4\n\n100 1 .6\n200 1 .5\n", {"curve": 2}, ""),
        ("n loss width\n1 .5 8\n2 .4 8\n\n\n1 .6 16\n2 .5 16\n", {"8": 1, "16": 1}, "'width' tells 2 curves"),
    ],
)  # fmt: skip
def test_blocks_between_blank_lines_are_curves(tmp_path, text, curves, said):
    table = read_curves(written(tmp_path, text))
    assert table.groupby("curve").apply(lambda runs: runs.groupby("n_train").size().max()).to_dict() == curves
    assert re.search(said, " ".join(table.attrs["notes"]))
    assert "blocks" not in " ".join(table.attrs["notes"]) or said


@pytest.mark.fault("curves: blocks between blank lines", "refused in one sentence")
@pytest.mark.parametrize("header", ["", "n loss\n", "# n loss\n"])
def test_blocks_that_may_be_runs_are_refused_with_a_cure(tmp_path, header):
    line = 5 + bool(header)
    with pytest.raises(UserError, match=f"above line {line} begins a second block .*a column 'curve'.*'seed'"):
        read_curves(written(tmp_path, header + FIRST + "\n" + SECOND))


TWO_METRICS = "100,loss,.5\n200,loss,.4\n400,loss,.3\n100,accuracy,.6\n200,accuracy,.7\n400,accuracy,.8\n"


@pytest.mark.fault("curves: names and units of columns", "read")
@pytest.mark.parametrize(
    ("text", "sizes", "losses", "said"),
    [
        ("n_train (x1000),loss\n1,.5\n2,.4\n4,.3\n", [1000, 2000, 4000], [0.5, 0.4, 0.3], "multiplied by 1,000"),
        ("n [10^3],loss\n.1,.5\n.2,.4\n", [100, 200], [0.5, 0.4], "multiplied by 1,000"),
        ("n [10⁶],loss\n1,.5\n2,.4\n", [1e6, 2e6], [0.5, 0.4], "multiplied by 1,000,000"),
        ("n (in 1e6),loss\n1,.5\n2,.4\n", [1e6, 2e6], [0.5, 0.4], "multiplied by 1,000,000"),
        ("n,1 - acc\n100,.5\n200,.4\n", [100, 200], [0.5, 0.4], ""),
        ("n,100-accuracy (%)\n100,50\n200,40\n", [100, 200], [50, 40], ""),
        ("n,one_minus_auc\n100,.5\n200,.4\n", [100, 200], [0.5, 0.4], ""),
        ("n,dice_loss\n100,.5\n200,.4\n", [100, 200], [0.5, 0.4], ""),
        ("n,-log_likelihood\n100,.5\n200,.4\n", [100, 200], [0.5, 0.4], ""),
        ("n,neg_log_likelihood\n100,.5\n200,.4\n", [100, 200], [0.5, 0.4], ""),
        ("n,loss,loss_err\n100,.5,.01\n200,.4,.01\n", [100, 200], [0.5, 0.4], "not used: loss_err"),
        ("n,top1_err\n100,50\n200,40\n", [100, 200], [50, 40], ""),
        ("n,top-5 error (%)\n100,50\n200,40\n", [100, 200], [50, 40], ""),
        ("n loss\n------\n100 .5\n200 .4\n", [100, 200], [0.5, 0.4], ""),
        ("n,acc,ci95,acc error (%)\n1,.5,.01,1\n2,.6,.01,1\n4,.7,.02,2\n", [1, 2, 4], [0.5, 0.4, 0.3], "used: ci95"),
        ("n,acc,accuracy error\n100,.5,.01\n200,.6,.01\n", [100, 200], [0.5, 0.4], "not used: accuracy error"),
        ("n,loss,log_loss_x,log10(n)\n100,.5,1,2\n200,.4,1,2.3\n", [100, 200], [0.5, 0.4], "not used: log10(n)"),
        ("n,acc\n100,70.0% ± 0.5%\n200,80.0% ± 0.4%\n", [100, 200], [30, 20], "spreads behind numbers"),
        ("n,loss\n100,.5\n200,#N/A\n400,.3\n", [100, 400], [0.5, 0.3], "1 of 3 rows have no loss"),
        ("n,fold,loss\n100,1,.5\n100,mean,.5\n100,std,.01\n200,1,.4\n200,mean,.4\n", [100, 200], [0.5, 0.4],
         "3 rows that sum up runs are left out (the first: 'mean', line 3"),
        ("n,metric,value\n" + TWO_METRICS, [100, 200, 400], [0.5, 0.4, 0.3], "not used: accuracy"),
        ("n,loss,val_loss\n100,.1,.5\n200,.2,.4\n", [100, 200], [0.5, 0.4], "loss beside val_loss is taken"),
        ("n,accuracy,val_accuracy\n1,.9,.5\n2,.9,.6\n", [1, 2], [0.5, 0.4], "accuracy beside val_accuracy is taken"),
        ("n,acc,test_acc,val_acc\n1,.9,.5,.4\n2,.9,.6,.4\n", [1, 2], [0.5, 0.4], "not used: acc, val_acc"),
        ("n,Recall@10\n100,.5\n200,.6\n", [100, 200], [0.5, 0.4], "1 - Recall@10"),
        ("n,mAP@0.5:0.95 (%)\n100,50\n200,60\n", [100, 200], [50, 40], "100 - mAP"),
        ("n,pass@1\n100,.5\n200,.6\n", [100, 200], [0.5, 0.4], "1 - pass@1"),
        ("n,err@1\n100,.5\n200,.4\n", [100, 200], [0.5, 0.4], ""),
        ("Dataset size,loss\n100,.5\n200,.4\n", [100, 200], [0.5, 0.4], ""),
        ("Train imgs,loss\n10K images,.5\n20K images,.4\n", [10000, 20000], [0.5, 0.4], "10K is read as 10000"),
        ("train_dataset,n,loss\nA,100,.5\nA,200,.4\n", [100, 200], [0.5, 0.4], ""),
        ('n,AUC (95% CI)\n1,"0.50 [0.47, 0.53]"\n2,0.60 (0.57–0.63)\n', [1, 2], [0.5, 0.4], "[0.47, 0.53] is read as"),
        ("n;loss\n100;0,5 ± 0,02\n200;0,4 ± 0,01\n", [100, 200], [0.5, 0.4], "decimal commas"),
        ("n,loss # nats\n100,.5 # first, with care\n200,.4\n", [100, 200], [0.5, 0.4], ""),
        ("# images,mAP # all\n100,.5\n200,.6\n", [100, 200], [0.5, 0.4], "1 - mAP"),
        ('{"n": [1, 2], "train_scores": [[1, 2], [1, 2]], "test_scores": [[0.5, 0.51], [0.6, 0.61]]}', [1, 1, 2, 2],
         [0.5, 0.49, 0.4, 0.39], "not used: train_scores"),
        ("n,acc\n1,0.50 (±0.02)\n2,0.60 (± 0.02)\n", [1, 2], [0.5, 0.4], "0.50 (±0.02) is read as 0.50"),
        ("n,acc\n1,50.0% (±0.5%)\n2,60% (59%-61%)\n", [1, 2], [50, 40], "is read as 50.0%"),
        ("$n$ & loss \\\\\n1 & $0.5_{\\pm 0.02}$ \\\\\n2 & \\textbf{.4} \\\\\n", [1, 2], [0.5, 0.4], "is read as 0.5"),
        ("n,loss\n2,.5\n2.5,.4\n", [2, 2.5], [0.5, 0.4], "n is 2 to 2.5: if these are logarithms"),
        ("n,loss\n.2,.5\n1,.4\n", [0.2, 1], [0.5, 0.4], "n is 1 at most: if it is the share of the data"),
        ("n,best_epoch,mem,loss\n100,7,1.1,.5\n200,9,1.3,.4\n", [100, 200], [0.5, 0.4], "not used: best_epoch, mem"),
        ("100 5.0E-01\n200 4.0E-01\n", [100, 200], [0.5, 0.4], "there is no header"),
        ("n resnet\n1.0E+02 5.0D-01\n2.0E+02 4.0D-01\n", [100, 200], [0.5, 0.4], "'resnet' is taken as the loss"),
        ("n,.metric,.estimate\n100,accuracy,.5\n200,accuracy,.6\n", [100, 200], [0.5, 0.4], "1 - accuracy"),
        ("n,100,200,400\nloss,.5,.4,.3\naccuracy,.6,.7,.8\nstd,.1,.1,.1\n", [100, 200, 400], [0.5, 0.4, 0.3],
         "not used: accuracy, std"),
        ("accuracy,100,200,400\nA,.5,.6,.7\n", [100, 200, 400], [0.5, 0.4, 0.3], "accuracy"),
        ("model,100,200,400\nA,.5,.4,.3\nA_std,.1,.1,.1\n", [100, 200, 400], [0.5, 0.4, 0.3], "not used: A_std"),
        ('"n" "loss"\n"1" 100 0.5\n"2" 200 0.4\n', [100, 200], [0.5, 0.4], ""),
        ("   n  loss\n0  100  0.5\n1  200  0.4\n", [100, 200], [0.5, 0.4], ""),
        ("===  ====\nn    loss\n===  ====\n100  .5\n200  .4\n===  ====\n", [100, 200], [0.5, 0.4], ""),
        ("$n$ & loss \\\\\n1{,}000 & .5 \\\\\n2\\,000 & .4 \\\\\n", [1000, 2000], [0.5, 0.4], ""),
    ],
)  # fmt: skip
def test_names_that_say_more_than_their_words(tmp_path, text, sizes, losses, said):
    table = read_curves(written(tmp_path, text))
    np.testing.assert_allclose(table["n_train"], sizes)
    np.testing.assert_allclose(table["loss"], losses)
    assert said in " ".join(table.attrs["notes"])


@pytest.mark.fault("curves: two units or two meanings", "refused in one sentence")
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("n,error\n100,30%\n200,0.20\n", "error is '30%' in line 2 and '0.20' in line 3"),
        ("n,acc\n100,70%\n200,0.80\n", "acc is '70%' in line 2 and '0.80' in line 3"),
        ("n,a,b\n100,30%,.3\n200,20%,.2\n", "'30%' in line 2 of a and '.3' in line 2 of b"),
        ('[{"n":100,"acc":"70%"},{"n":200,"acc":0.8}]', "acc is '70%' in run 1 and '0.8' in run 2"),
        ("model,n,acc\nA,1,70\nA,2,80\nB,1,.6\nB,2,.7\n", "acc of 'B' is 0.7 at most, and above 1 elsewhere"),
        ("n,vit_acc,cnn_acc\n1,70,.6\n2,80,.7\n", "accuracy of 'cnn_acc' is 0.7 at most, and above 1 elsewhere"),
        ("n,error\n1,.12\n2,.10\n4,8.5\n8,7.1\n", "error is 0.1 at 2 and 8.5 at 4, as if one were in percent and the"),
        ("n,test_error\n1,12\n2,10\n4,.085\n8,.071\n", "test_error is 10 at 2 and 0.085 at 4, as if one were"),
        ("n,acc\n1,.7\n2,.75\n4,79\n8,82\n", "acc is 0.75 at 2 and 79 at 4, as if"),
        ("n,seed,acc\n1,0,.7\n1,1,71\n2,0,.74\n2,1,.76\n", "acc is 0.7 at 1 and 71 at 1, as if"),
        ("n,vit_err,cnn_err\n1,.3,.4\n2,.2,.3\n4,.1,20\n", "error of 'cnn_err' is 0.3 at 2 and 20 at 4, as if"),
        ("model,n,1 - acc\nA,1,.3\nA,2,.2\nB,1,.3\nB,2,20\n", "1 - acc of 'B' is 0.3 at 1 and 20 at 2, as if"),
        ('[{"n":1,"wer":0.9},{"n":2,"wer":80.5},{"n":4,"wer":70}]', "wer is 0.9 at 1 and 80.5 at 2, as if"),
        ("n,loss,loss.1\n100,.5,.6\n200,.4,.5\n", "'loss' and 'loss.1' could each be the loss: if they are runs"),
        ("n,ppl,bits_per_byte\n100,9,.6\n200,8,.5\n", "'ppl' and 'bits_per_byte' could each be the loss"),
        ("n,acc_gain\n100,.1\n200,.2\n", "its column acc_gain rises with the size: is it an accuracy"),
        ("100 5.0E-01 1E-2\n200 4.0E-01 1E-2\n", "has no header: name the columns in its first line"),
        ("n,Acc@1,Acc@5\n100,70,90\n200,75,92\n", "'Acc@1' and 'Acc@5' could each be the accuracy"),
        ("resnet,100,.5\nresnet,200,.4\n", "no header, or one of numbers .resnet, 100, .5.: name the columns"),
        ("n,error\n0,.9\n100,.5\n", "n is '0'; it must be a positive number: leave out the row of a model"),
        ("n,error\n100,.9\n200,0\n", "error is '0'; .*: leave the row out, or measure it on a larger test set"),
        ("n,loss\n100,inf\n200,.5\n", "loss is 'inf'; it must be a positive number: leave out the row"),
        ('[{"n":100,"loss":0.5},{"n":200,"loss":Infinity}]', "loss is 'inf'; it must be .*: leave out the row"),
        ("train size (%),loss\n10,.5\n20,.4\n", "which column holds the training sizes"),
        ("n_train (log10),loss\n2,.5\n3,.4\n", "'n_train .log10.' holds logarithms"),
        ("n,log(error)\n100,-.5\n200,-.7\n", "'log.error.' holds logarithms"),
        ("n,ln_error\n100,1.5\n200,1.2\n", "'ln_error' holds logarithms"),
        ("n,error,accuracy\n100,.01,.5\n200,.01,.6\n", "'error' is not what 'accuracy' leaves of its best value"),
        ("n,mse_loss,mae_loss\n100,.5,.6\n200,.4,.5\n", "'mse_loss' and 'mae_loss' could each be the loss"),
        ("n,-accuracy\n100,-.5\n200,-.6\n", "-accuracy is '-.5'"),
        ("n,acc\n100,.9\n200,.8\n400,.7\n", "the acc falls with n_train .0.9 at 100, 0.7 at 400.; is it a loss"),
        ("n,error\n100,70\n200,80\n400,90\n", "which fits 100 - error"),
        ("n;error\n1.000;90\n2.000;80\n", "'1.000' can be read as 1000 or as 1.000"),
        (".5,100\n.4,200\n.3,400\n", "the second numbers may be the sizes"),
        ("[[0.5, 100], [0.4, 200], [0.3, 400]]", "the second numbers may be the sizes"),
        ('{"n":100,"loss":0.9}\n{"n":200,"loss":0.8}\nnot json\n', "line 3, cannot be read as JSON"),
        ("<table><tr><td>n</td></tr></table>", "a web page"),
        ("n,training,loss\n100,yes,.5\n200,no,.4\n", "line 2: training is 'yes'; it must be 1"),
    ],
)  # fmt: skip
def test_two_units_or_two_meanings_are_never_mixed(tmp_path, text, message):
    with pytest.raises(UserError, match=message):
        read_curves(written(tmp_path, text))


def test_names_in_merged_cells_stand_for_the_rows_below(tmp_path):
    text = "domain,model,n,loss\nX,A,100,.5\n,,200,.4\n,B,100,.6\n,,200,.5\nY,A,100,.7\n,,200,.6\n"
    table = read_curves(written(tmp_path, text))
    assert table.groupby("curve").size().to_dict() == {"X / A": 2, "X / B": 2, "Y / A": 2}
    assert sum("taken as the name above" in note for note in table.attrs["notes"]) == 2
    alternating = read_curves(written(tmp_path, "model,n,loss\nA,100,.5\n,100,.6\nA,200,.4\n,200,.5\n"))
    assert sorted(alternating["curve"].unique()) == ["(blank)", "A"]


def test_percent_of_the_data_is_no_size_even_if_named(tmp_path):
    with pytest.raises(UserError, match="in percent by its name: give the number of training examples"):
        read_curves(written(tmp_path, "share (%),loss\n10,.5\n20,.4\n"), size="share (%)")


def test_parquet_comes_through_every_door(tmp_path, monkeypatch):
    file = tmp_path / "a.parquet"
    pd.DataFrame({"n": [100, 200], "loss": [0.5, 0.4]}).to_parquet(file)
    monkeypatch.setattr("sys.stdin", type("Stdin", (), {"buffer": io.BytesIO(file.read_bytes())}))
    for source in (file, "-", file.read_bytes(), io.BytesIO(file.read_bytes())):
        np.testing.assert_allclose(read_curves(source)["loss"], [0.5, 0.4])
    with pytest.raises(UserError, match="compressed"):
        read_curves(b"\x1f\x8b" + bytes(20))


def test_columns_of_a_model_and_a_seed_are_runs_of_curves(tmp_path):
    text = "n,a_seed0,a_seed1,b-Seed 0,b-Seed 1\n100,.5,.51,.6,.61\n200,.4,.41,.5,.51\n"
    table = read_curves(written(tmp_path, text))
    assert table.groupby(["curve", "seed"])["loss"].min().to_dict() == {
        ("a", 0): 0.4, ("a", 1): 0.41, ("b", 0): 0.5, ("b", 1): 0.51,
    }  # fmt: skip
    assert "a_seed0 to b-Seed 1 are taken as runs (seeds) of curves" in table.attrs["notes"][0]


def test_rows_of_a_tracking_program_without_the_loss_tell_no_curves_apart():
    rows = [{"n": n, "step": s, **({"eval/loss": y} if s else {"train/loss": y})} for n, y in PAIRS for s in (0, 1)]
    table = read_curves(pd.DataFrame(rows))
    assert list(table["curve"].unique()) == ["curve"] and list(table["loss"]) == LOSSES


def test_a_table_that_was_sorted_or_filtered_is_read_by_its_rows():
    frame = pd.DataFrame({"n": [100, 200, 100, 200], "loss": [0.5, 0.4, 0.6, 0.5], "width": [8, 8, 16, 16]})
    wanted = read_curves(frame)
    assert list(wanted["curve"]) == ["16", "16", "8", "8"]
    for index in ([7, 3, 5, 1], [3, 1, 0, 2], list("abcd")):
        pd.testing.assert_frame_equal(read_curves(frame.set_axis(index)), wanted)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("error (%)", [8.5, 7.1, 0.12, 0.1]),
        ("error", ["8.5%", "7.1%", "0.12%", "0.1%"]),
        ("error", [12, 4, 1.6, 0.9, 0.5]),  # of digits, in percent
        ("wer", [1.2, 0.9, 0.5, 0.2]),
        ("loss", [8.5, 7.1, 0.12, 0.1]),
        ("mean_squared_error", [8.5, 7.1, 0.12, 0.1]),
        ("accuracy", [0.6, 2.1, 9.0, 31.0]),  # of a thousand classes, in percent
    ],
)
def test_what_crosses_one_without_a_jump_is_in_one_unit(name, values):
    found = read_curves(pd.DataFrame({"n": [100 * 2**i for i in range(len(values))], name: values}))
    wanted = [float(str(value).removesuffix("%")) for value in values]
    np.testing.assert_allclose(found["loss"], np.subtract(100, wanted) if name == "accuracy" else wanted)


def test_labelled_arrays_are_judged_as_tables_are():
    n = {"n_train": [100, 200, 400]}
    falling = xr.DataArray([0.5, 0.4, 0.3], dims="n_train", coords=n)
    assert as_array(falling.rename("1 - accuracy")).attrs["metric"] == "loss"
    with pytest.raises(UserError, match="in percent by its name and 0.7 at most"):
        as_array((1 - falling).rename("accuracy (%)"))
    both = xr.concat([100 * (1 - falling), 1 - falling], pd.Index(["a", "b"], name="model"))
    with pytest.raises(UserError, match="accuracy of 'b' is 0.7 at most"):
        as_array(both.rename("accuracy"))
    with pytest.raises(UserError, match="holds logarithms"):
        as_array(falling.rename("loss (log10)"))
    two_units = xr.where(falling["n_train"] > 100, 100 * falling, falling)
    with pytest.raises(UserError, match="error is 0.5 at 100 and 40 at 200, as if one were in percent"):
        as_array(two_units.rename("error"))
    with pytest.raises(UserError, match="acc is 0.5 at 100 and 60 at 200, as if one were in percent"):
        as_array(xr.where(falling["n_train"] > 100, 100 * (1 - falling), 1 - falling).rename("acc"))


def test_runs_that_are_all_held_out_are_told(tmp_path):
    with pytest.raises(UserError, match="all of its runs are held out"):
        as_array(written(tmp_path, "n,training,loss\n100,0,.5\n200,0,.4\n"))


def test_means_with_a_spread_and_a_count_are_runs():
    """A table of means forecasts as the runs behind it do."""
    rng, sizes = np.random.default_rng(2), np.repeat([100, 200, 400, 800, 1600], 4)
    loss = (0.2 + 2 * sizes**-0.4) * np.exp(0.03 * rng.standard_normal(sizes.size))
    runs = pd.DataFrame({"n_train": sizes, "accuracy": 1 - loss, "seed": np.tile(range(4), 5)})
    of_runs = runs.groupby("n_train")["accuracy"]
    means = of_runs.agg(accuracy="mean", accuracy_std="std", accuracy_sem="sem", accuracy_min="min").reset_index()
    kept = means.drop(columns=["accuracy_min"]).assign(n_runs=4)
    by_sem = kept.drop(columns="accuracy_std")
    asked = [gz.forecast(data, [6_400]) for data in (runs, kept, by_sem)]
    for other in asked[1:]:
        for name in ("loss", "lower", "upper"):
            assert float(other[name].squeeze()) == pytest.approx(float(asked[0][name].squeeze()), rel=0.02)
    found = read_curves(kept)
    assert len(found) == 20 and sorted(found.loc[found.n_train == 100, "seed"]) == [0, 1, 2, 3]
    assert found.groupby("n_train").loss.mean().to_numpy() == pytest.approx(1 - kept.accuracy.to_numpy())
    assert found.groupby("n_train").loss.std().to_numpy() == pytest.approx(kept.accuracy_std.to_numpy(), rel=0.02)
    assert any("each is taken as n_runs runs with the mean accuracy" in note for note in found.attrs["notes"])


@pytest.mark.parametrize(
    ("text", "rows", "note"),
    [
        ("n,loss,loss_std\n10,.5,.1\n20,.4,.1\n", 2, "loss_std would count with a column n_runs"),
        ("n,loss,loss_std,n_seeds\n10,.5,.1,3\n20,.4,,1\n", 4, "each is taken as n_seeds runs"),
        ("n,loss,std,runs\n10,.5,.1,3\n20,.4,.1,2\n", 5, "the standard deviation std"),
        ("n,loss,sem,runs\n10,.5,.1,3\n20,.4,.1,2\n", 5, "the standard error of their mean sem"),
        ("n,test_loss,train_loss_std,runs\n10,.5,.1,3\n20,.4,.1,2\n", 2, "not used: train_loss_std, runs"),
        ("n,loss,loss_std,runs\n10,.5,.1,2.5\n20,.4,.1,2\n", 2, "not used: loss_std, runs"),
        ("n,loss,loss_std,runs\n10,.5,.1,90000\n20,.4,.1,2\n", 2, "not used: loss_std, runs"),
        ("n,loss,loss_low,loss_high,runs\n10,.5,.4,.6,3\n20,.4,.3,.5,3\n", 2, "not used: loss_low, loss_high, runs"),
        ("n,loss,loss_std,seed,runs\n10,.5,.1,0,3\n20,.4,.1,0,2\n", 2, "not used: loss_std, runs"),
    ],
)
def test_which_columns_say_of_how_many_runs_a_row_is(text, rows, note):
    found = read_curves(text)
    assert len(found) == rows and any(note in said for said in found.attrs["notes"])
    assert (found.loss > 0).all() and not found.duplicated(["n_train", "seed"]).any()


def test_a_spread_below_zero_is_refused_with_its_own_cell_and_line():
    text = "n,loss,loss_std,runs\n5,,.2,3\n10,.5,.1,3\n20,.4,-0.1,3\n"  # the first row is left out
    with pytest.raises(UserError, match="line 4: loss_std is '-0.1'; a spread is 0 or more"):
        read_curves(text)


def test_values_that_astropy_masks_in_parquet_are_blanks(tmp_path):
    file = tmp_path / "a.parquet"
    table = pd.DataFrame({"n": [100, 200, 400], "loss": [0.5, 1e20, 0.3], "loss.mask": [False, True, False]})
    table.to_parquet(file)
    runs = read_curves(file)
    assert runs["n_train"].tolist() == [100, 400] and runs["loss"].tolist() == [0.5, 0.3]
    assert "1 of 3 rows have no loss and are left out (row 1)" in runs.attrs["notes"]


ROWS_BY_METRIC = {  # a row for each metric, and columns for sizes, for seeds or for curves
    "sizes": "model,metric,100,200,400\na,accuracy,.5,.6,.7\na,loss,.9,.8,.7\n",
    "seeds": "n,metric,seed0,seed1\n100,accuracy,.5,.5\n100,loss,.9,.9\n400,accuracy,.7,.7\n400,loss,.7,.7\n",
    "curves": "n,metric,a,b\n100,accuracy,.5,.4\n100,loss,.9,.8\n400,accuracy,.7,.6\n400,loss,.7,.6\n",
}


@pytest.mark.parametrize("text", ROWS_BY_METRIC.values(), ids=ROWS_BY_METRIC)
def test_rows_of_an_accuracy_beside_those_of_a_loss_are_no_losses(tmp_path, text):
    table = read_curves(written(tmp_path, text))
    assert table["loss"].tolist() == sorted(table["loss"], reverse=True) or table["curve"].nunique() == 2
    assert set(table["loss"]) <= {0.9, 0.8, 0.7, 0.6} and table.groupby("curve")["n_train"].max().eq(400).all()
    assert "not used: accuracy" in table.attrs["notes"]


def test_rows_of_accuracies_named_by_a_column_are_turned(tmp_path):
    table = read_curves(written(tmp_path, "model,metric,100,200,400\na,accuracy,.5,.6,.7\nb,accuracy,.4,.5,.6\n"))
    np.testing.assert_allclose(table["loss"], [0.5, 0.4, 0.3, 0.6, 0.5, 0.4])
    assert table["curve"].tolist() == ["a"] * 3 + ["b"] * 3 and table.attrs["metric"] == "1 - accuracy"


def test_a_measured_number_that_curves_share_tells_none_apart(tmp_path):
    runs = [f"{e},{n},{s},{y + s / 99:.3f},{2 + n / 1e4 + s / 7:.4f}" for e in "ab" for n, y in PAIRS for s in (0, 1)]
    table = read_curves(written(tmp_path, "\n".join(["encoder,n_train,seed,loss,baseline", *runs])))
    assert table["curve"].unique().tolist() == ["a", "b"] and len(table) == 4 * len(PAIRS)
    assert "not used: baseline (it differs in each row)" in table.attrs["notes"]


def test_a_column_of_words_is_no_size(tmp_path):
    text = "subset,Ngal,error\nbright,100,.5\nbright,200,.4\nfaint,100,.6\nfaint,200,.5\n"
    table = read_curves(written(tmp_path, text))
    assert table["curve"].unique().tolist() == ["bright", "faint"] and table["n_train"].tolist() == [100, 200] * 2


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"SIMPLE  =  T" + bytes(9), "a FITS file"),
        (b"\x89HDF\r\n\x1a\n", "HDF5 or netCDF"),
        (b"<?xml version='1.0'?><VOTABLE/>", "XML"),
        (b"\x93NUMPY\x01\x00", "a NumPy array"),
    ],
)
def test_files_of_other_kinds_are_named(content, what):
    with pytest.raises(UserError, match=f"is {what}.*save the curves as CSV"):
        read_curves(content)
