"""The figures of one GPU: the program that measures them, tried on a processor."""

import json

import gpu
import pytest
import rehearsal

from gzlib.errors import UserError
from gzlib.study.presets import PAPER_ENCODERS


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    folder = tmp_path_factory.mktemp("gpu")
    assert gpu.main(["--out", str(folder), "--device", "cpu", "--tiny"]) == 0
    return folder


def rows_of(folder):
    records = [json.loads(file.read_text()) for file in folder.iterdir()]
    assert all(record["machine"]["torch"] for record in records)
    return {row["name"]: row for record in records for row in record["rows"]}


@pytest.mark.slow
def test_every_figure_is_filled(measured):
    wanted = [name for _, name, _ in gpu.figures(tiny=True)]
    rows = rows_of(measured)
    assert set(wanted) <= set(rows) and all(row["value"] > 0 for row in rows.values())
    assert {"step.mfu", "loss.gpu_seconds", "loader.gpu", "loader.gpu224", "rehearsal.train.gpu"} <= set(wanted)
    one = rows["paper.convnext_atto"]
    assert one["ok"] and one["peak_bytes"] > 0 and len(one["losses"]) == gpu.STEPS and one["batch"] == one["asked"] == 4
    whole = (one["step"] // one["batch"]) * one["pass_seconds"] + one["update_seconds"] + one["view_seconds"]
    assert one["value"] == pytest.approx(whole / one["step"])


def test_all_encoders_of_the_paper_come_first_at_their_size():
    names = [name for what, name, _ in gpu.figures(tiny=False) if what == "paper"]
    assert sorted(names) == sorted(f"paper.{encoder}" for encoder in PAPER_ENCODERS) and gpu.SIDE == 224
    first = [name for _, name, _ in gpu.figures(tiny=False)][: len(names)]
    assert first == names
    assert (gpu.REHEARSED, gpu.SIDE) == (rehearsal.ENCODER, rehearsal.SIDE)


@pytest.mark.slow
def test_it_goes_on_where_it_was_cut_off(measured, monkeypatch, capsys):
    file = measured / "loss-cpu.json"
    record = json.loads(file.read_text())
    before = {f.name: f.read_text() for f in measured.iterdir() if f != file}
    record["rows"][0]["value"] = None
    file.write_text(json.dumps(record))
    assert gpu.main(["--out", str(measured), "--device", "cpu", "--tiny", "--seconds", "1"]) == 1
    assert "No time was left for loss.gpu_seconds" in capsys.readouterr().out
    assert gpu.main(["--out", str(measured), "--device", "cpu", "--tiny"]) == 0
    assert rows_of(measured)["loss.gpu_seconds"]["value"] > 0
    assert {f.name: f.read_text() for f in measured.iterdir() if f != file} == before


@pytest.mark.slow
def test_a_batch_that_does_not_fit_is_halved_and_a_failure_costs_one_figure(tmp_path, monkeypatch):
    import torch

    tried = []

    def trained(name, side, recipe, asked):
        tried.append((recipe.batch_size, recipe.accumulate))
        if recipe.batch_size > 64:
            raise torch.OutOfMemoryError("no memory")
        return gpu.row(f"paper.{name}", 1.0, "s/picture")

    monkeypatch.setattr(gpu, "_trained", trained)
    gpu.paper_encoder("convnext_base")
    assert tried == [(256, 8), (128, 16), (64, 32)]
    broken = [("loss", "loss.a", lambda: 1 / 0), ("loss", "loss.b", lambda: gpu.row("loss.b", 2.0, "s"))]
    monkeypatch.setattr(gpu, "figures", lambda tiny: broken)
    assert gpu.measure(tmp_path, seconds=100.0) == []
    rows = rows_of(tmp_path)
    assert rows["loss.a"]["value"] is None and "ZeroDivisionError" in rows["loss.a"]["detail"]
    assert rows["loss.b"]["value"] == 2.0


def test_without_a_gpu_it_says_so(tmp_path):
    if gpu.torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    with pytest.raises(UserError, match="no CUDA GPU here; --device cpu --tiny"):
        gpu.main(["--out", str(tmp_path / "no")])
    assert not (tmp_path / "no").exists()
