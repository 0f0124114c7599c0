"""Encoders to share: released with cards, loaded again, and the one that comes with the package."""

import json
import re
import shlex
from dataclasses import replace

import pytest
from safetensors import safe_open
from test_training import SHORT, pretraining, quiet, survey, task  # noqa: F401, fixtures

from gzlib import cli, paths
from gzlib.__main__ import parse
from gzlib.cli import main
from gzlib.config import Conduct, FinetuneConfig, config_from_dict
from gzlib.errors import UserError
from gzlib.identity import file_hash
from gzlib.models import count_parameters, load_encoder, weights_identity
from gzlib.models.weights import SKY
from gzlib.training.runs import release, rerun, run

pytestmark = pytest.mark.slow


def test_a_released_encoder_says_what_it_was_trained_on_and_starts_other_runs(store, survey, task, tmp_path, capsys):  # noqa: F811
    record = run(pretraining(), survey, conduct=Conduct(report=quiet))
    out = tmp_path / "assets"
    assert main(["runs", "release", str(out), record["key"][:9]]) == 0
    file, card, sums = out / f"convnext_w4-{record['key'][:8]}.safetensors", None, out / "SHA256SUMS"
    card = file.with_suffix(".md")
    assert capsys.readouterr().out.split() == [str(file), str(card), str(sums)]
    assert sums.read_text().splitlines() == [f"{file_hash(f)}  {f.name}" for f in (file, card)]
    assert [release([record["key"]], tmp_path / "again")[0].read_bytes() for _ in "123"] == [file.read_bytes()] * 3
    text = card.read_text()
    for needed in (
        "Every galaxy it was trained on is simulated",
        record["survey"]["fingerprint"],
        f"{record['metrics']['loss']:.3f}",
        f"seed {record['config']['seed']}",
        file_hash(file),
        f"gzlib pretrain --survey {survey.source} --size {survey.size}",
        f"--set recipe.examples={SHORT.examples}",
    ):
        assert needed in text, needed
    _, bound = parse(shlex.split(re.search(r"gzlib (pretrain .*)", text)[1]))
    encoder, n, settings = (bound.arguments[name] for name in ("encoder", "n_train", "settings"))
    again = cli.configured(cli.PRETRAIN, bound.arguments.get("run", cli.PRETRAINED), encoder, n, settings)
    assert again == config_from_dict("pretrain", record["config"])  # although the recipe is not the encoder's usual one

    config = FinetuneConfig("galaxy10", "convnext_w4", 80, weights=str(file), mode="full", recipe=SHORT)
    said = []
    started = run(config, task, conduct=Conduct(report=said.append))
    assert any(re.search(r"Weights: '.*': \d+ tensors loaded", line) for line in said)
    assert started["config"]["weights"] == f"file:{file_hash(file)[:16]}"
    assert started["weights"] == {"tag": "file", "sha256": file_hash(file)}
    assert str(tmp_path) not in json.dumps(started)
    # From the run itself the same starting weights give the same result.
    same = run(replace(config, weights=record["key"]), task, conduct=Conduct(report=quiet))
    assert same["metrics"]["error"] == started["metrics"]["error"] and same["test"] == started["test"]

    with pytest.raises(UserError, match="started from a local file of weights"):
        rerun(started["key"], conduct=Conduct(report=quiet))
    assert rerun(started["key"], weights=str(file), conduct=Conduct(report=quiet))["key"] == started["key"]
    (store / "other").mkdir()
    with pytest.raises(UserError, match="another file of weights"):
        rerun(started["key"], weights=str(SKY), conduct=Conduct(report=quiet))


def test_only_pretrained_encoders_whose_weights_are_here_are_released(store, survey, task, tmp_path):  # noqa: F811
    probe = run(FinetuneConfig("galaxy10", "convnext_w4", 80), task, conduct=Conduct(report=quiet))
    key = run(pretraining(), survey, conduct=Conduct(report=quiet))["key"]
    with pytest.raises(UserError, match="is not a pretraining run"):
        release([key, probe["key"]], tmp_path / "assets")
    (paths.STORE / key / "weights.safetensors").unlink()
    with pytest.raises(UserError, match="gzlib rerun"):
        release([key], tmp_path / "assets")
    assert not (tmp_path / "assets").exists()


def test_the_packages_own_encoder():
    with safe_open(SKY, "pt") as stored:
        name = stored.metadata()["encoder"]
    encoder = load_encoder(name, "sky", size=64)
    assert SKY.stat().st_size < 5e6
    assert weights_identity(name, "sky") == {"tag": "gzlib:sky", "sha256": file_hash(SKY)}
    card = SKY.with_suffix(".md").read_text()
    assert file_hash(SKY) in card and f"{count_parameters(encoder):,} parameters" in card
    assert "Every galaxy it was trained on is simulated" in card and "gzlib pretrain --survey sim:" in card
    with pytest.raises(UserError, match=f"another encoder than 'resnet_w4': use --encoder {name}"):
        load_encoder("resnet_w4", "sky", size=64)


def test_the_packages_own_encoder_needs_no_name(store, task, capsys):  # noqa: F811
    command = [
        "finetune",
        "--survey",
        str(task.source),
        "--size",
        str(task.size),
        "--weights",
        "sky",
        "--n-train",
        "80",
    ]
    assert main([*command, "--store", str(paths.STORE)]) == 0
    out, err = capsys.readouterr()
    assert "test error" in out and "Weights: 'sky'" in err
    (record,) = [json.loads(f.read_text()) for f in paths.STORE.glob("*/run.json")]
    assert record["config"]["encoder"] == safe_open(SKY, "pt").metadata()["encoder"]
    assert main([*command, "--encoder", "resnet_w4", "--store", str(paths.STORE)]) == 2
    assert "another encoder than 'resnet_w4'" in capsys.readouterr().err
