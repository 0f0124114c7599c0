import json

import pytest

from gzlib.__main__ import main


def test_bad_input_is_one_sentence_and_status_2(capsys):
    assert main(["curate", "sim:0"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("gzlib curate: 'sim:0'")
    assert captured.err.count("\n") == 1


def test_traceback_only_when_asked():
    from gzlib.errors import UserError

    with pytest.raises(UserError):
        main(["--debug", "curate", "sim:0"])


def test_curate_then_pretrain_then_finetune(own_store, capsys):
    survey = str(own_store / "sky")
    assert main(["curate", "sim:gz2:120", "--out", survey, "--size", "32"]) == 0
    assert "120 galaxies" in capsys.readouterr().out
    common = ["--encoder", "convnext_w4", "--examples", "128"]
    assert main(["pretrain", "--survey", survey, *common]) == 0
    printed = capsys.readouterr().out
    assert "test loss" in printed
    key = printed.split()[1].rstrip(":")
    assert main(["pretrain", "--again", key]) == 0
    task = ["--survey", "sim:galaxy10:120", "--size", "32", "--n-train", "60", "--weights", key]
    capsys.readouterr()
    assert main(["finetune", *task, *common]) == 0
    assert "test error" in capsys.readouterr().out
    assert main(["finetune", *common]) == 2
    assert "--survey" in capsys.readouterr().err


def test_unreachable_hub_is_one_sentence_with_an_alternative(monkeypatch, capsys):
    from gzlib.data.sources import hub

    monkeypatch.setattr(hub, "hub_reachable", lambda: False)
    assert main(["curate", "hub:nobody/no_such_data_set"]) == 2
    message = capsys.readouterr().err
    assert "could not be reached" in message
    assert "sim:" in message


def test_doctor_names_what_is_there(capsys):
    assert main(["doctor"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("ok torch") for line in lines)
    assert any("hub" in line for line in lines)


def test_bench_names_what_it_can_measure(capsys):
    assert main(["bench", "list"]) == 0
    assert {"build", "curves"} <= set(capsys.readouterr().out.split())
    assert main(["bench", "weather"]) == 2
    assert "no benchmark 'weather'" in capsys.readouterr().err


def test_fit_and_forecast_from_a_file(tmp_path, capsys):
    file = tmp_path / "curves.csv"
    rows = [
        f"{n},{0.2 + 3 * n**-0.5 * (1 + 0.01 * s)},{s}" for n in (100, 200, 400, 800, 1600, 3200) for s in (-1, 0, 1)
    ]
    file.write_text("\n".join(["n_train,loss,seed", *rows]) + "\n")
    assert main(["fit", str(file)]) == 0
    assert "alpha" in capsys.readouterr().out
    assert main(["forecast", str(file), "--target", "0.23"]) == 0
    assert json.loads(capsys.readouterr().out)
    file.write_text("a,b\n1,2\n")
    assert main(["fit", str(file)]) == 2
    assert "n_train" in capsys.readouterr().err
