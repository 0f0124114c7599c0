"""A run saved as a model: its folder, and predictions that are the run's own, for images, files and surveys."""

import errno
import io
import json
import os
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import timm
import torch
from fault_inputs import saved, write_table
from PIL import Image
from safetensors.torch import load_file, save_file
from survey_inputs import gz2_votes

from gzlib import paths
from gzlib.cli import main
from gzlib.config import Conduct, FinetuneConfig, PretrainConfig, Recipe, SurveySpec
from gzlib.data.curation import make_survey
from gzlib.data.images import Frame
from gzlib.data.schema import load_schema
from gzlib.data.survey import open_survey
from gzlib.errors import NotWritten, UserError
from gzlib.models.heads import CONCENTRATION_MIN, CONCENTRATION_RANGE
from gzlib.training import predict as predicting
from gzlib.training.distributed import choose_device
from gzlib.training.finetuning import finetune, finetuned_model, prepare_task, probe_model
from gzlib.training.predict import write_table as write_predictions
from gzlib.training.publish import export, push, save_run
from gzlib.training.runs import run
from gzlib.training.saved import load_model

pytestmark = pytest.mark.slow

N, SIZE = 80, 32
SHORT = Recipe(examples=192, batch_size=32, evaluations=2, learning_rate=3e-3)
NAMES = np.array(["E, round", "<b>Irr</b>", "S|pipe"])
quiet = lambda line: None  # noqa: E731


def table(votes):
    """Galaxies whose brightness tells their labels, as columns and encoded images."""
    level = np.arange(N) * 37 % N / N
    rng = np.random.default_rng(0)
    pixels = np.clip(rng.normal(30 + 180 * level[:, None, None, None], 10, (N, 40, 40, 3)), 0, 255).astype(np.uint8)
    third = np.minimum(level * 3, 2).astype(int)
    columns = {
        "id_str": [f"J{i:03d}+0{i}" for i in range(N)],
        "morph": NAMES[third].tolist(),
        "codes": (100 * (third + 1)).tolist(),
        "mag": (-2.5 * level - 20).tolist(),
        "part": level.tolist(),
        "split": ["test" if i % 4 == 0 else "val" if i % 4 == 1 else "train" for i in range(N)],
    }
    columns |= {col: votes[:, i].tolist() for i, col in enumerate(load_schema("gz2").label_cols)}
    return columns, [saved(Image.fromarray(one), "PNG") for one in pixels]


def leads(schema, found):
    """The share of those who see features who are asked about arms, where something else is asked before."""
    after = schema["has-spiral-arms-gz2"].asked_after
    return 1 if after.startswith("smooth-or-featured") else found[f"{after}_fraction"]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A catalogue with image files, and a store of runs, for all tests of this module."""
    folder = tmp_path_factory.mktemp("saved")
    columns, images = table(gz2_votes(N))
    (folder / "in" / "images").mkdir(parents=True)
    for id_str, image in zip(columns["id_str"], images, strict=True):
        (folder / "in" / "images" / f"{id_str}.png").write_bytes(image)
    files = {"file_loc": [f"images/{id_str}.png" for id_str in columns["id_str"]]}
    pd.DataFrame(columns | files).to_csv(folder / "in" / "catalog.csv", index=False)
    with pytest.MonkeyPatch.context() as patch:
        for name in ("STORE", "BOOK_RUNS", "SURVEYS"):
            patch.setattr(paths, name, folder / name.lower())
        patch.setattr("gzlib.training.probes.PENALTIES", (1.0,))  # of votes, one takes a second
        patch.setattr("gzlib.training.probes.FOLDS", 2)
        yield folder


KINDS = {
    "classes-linear": ("morph", "linear"),
    "classes-full": ("morph", "full"),
    "codes-linear": ("codes", "linear"),
    "number-linear": ("mag", "linear"),
    "number-full": ("mag", "full"),
    "fraction-full": ("part", "full"),
    "votes-linear": ("votes", "linear"),
    "votes-full": ("votes", "full"),
}


def configured(place, kind):
    label, mode = KINDS[kind]
    config = FinetuneConfig("rings & co", "resnet_w4", 36, label=label, mode=mode, recipe=SHORT)
    return config, SurveySpec(str(place / "in"), size=SIZE, split="published", schema="gz2")


def saved_model(place, kind):
    """The model of one kind, made once."""
    out = place / kind
    if not out.exists():
        config, survey = configured(place, kind)
        record = run(config, survey, need_weights=config.mode == "full", conduct=Conduct(report=quiet))
        save_run(config, survey, record, out, unit="mag" if config.label == "mag" else "", device="cpu")
    return load_model(out, device="cpu")


@pytest.mark.parametrize("kind", KINDS)
def test_a_saved_model_predicts_what_the_run_predicted(place, kind, monkeypatch):
    model = saved_model(place, kind)
    config, survey = configured(place, kind)
    kept = {}
    monkeypatch.setattr(
        "gzlib.training.finetuning.measure", lambda prediction, task: kept.update(p=prediction, task=task) or ({}, {})
    )
    if config.mode == "linear":
        finetune(config, survey, device=choose_device("cpu"), conduct=Conduct(report=quiet))
    else:
        task = prepare_task(config, survey)
        state = run(config, survey, need_weights=True, conduct=Conduct(report=quiet))
        from gzlib.models.weights import read_weights, run_weights

        network = finetuned_model(config, task, read_weights(run_weights(state["key"])))
        images = torch.from_numpy(task.data.images.values[task.test]).permute(0, 3, 1, 2).float() / 255
        with torch.no_grad():
            kept.update(p=network(images), task=task)
    outputs = model.outputs(kept["task"].data.images.values[kept["task"].test])
    np.testing.assert_allclose(outputs, kept["p"].numpy(), rtol=2e-6, atol=2e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_a_models_folder_says_what_it_is(place, kind):
    model = saved_model(place, kind)
    label = KINDS[kind][0]
    record = run(*configured(place, kind), conduct=Conduct(report=quiet))["metrics"]
    assert model.config.metrics["error"] == pytest.approx(record["error"], rel=1e-4)
    assert model.config.metrics["baseline_error"] == pytest.approx(record["baseline_error"], rel=1e-4)
    assert model.config.head.label == label and model.config.image.size == SIZE
    card, page = ((place / kind / name).read_text() for name in ("README.md", "figures.html"))
    assert card.startswith("---\nlibrary_name:") and "must not be used for" in card and "gz.load_model" in card
    assert page.count("data:image/png") >= 3 and "http" not in page
    assert str(place) not in card + page + (place / kind / "config.json").read_text()
    assert "<b>" not in re.sub("`[^`]*`", "", card) and "<b>" not in page
    if label == "mag":
        assert model.config.head.unit == "mag" and " mag" in card
    if label == "votes":
        assert "bar-gz2" in card and len(model.config.head.tree) == 10


def test_a_prediction_has_the_names_of_classes_and_sums_to_one(place):
    model = saved_model(place, "classes-full")
    found = model.predict(place / "in" / "catalog.csv")
    assert found.id_str.tolist() == [f"J{i:03d}+0{i}" for i in range(N)] and (found.problem == "").all()
    columns = [f"probability_{name}" for name in sorted(NAMES)]
    assert list(found.columns) == ["id_str", "predicted_morph", *columns, "problem"]
    np.testing.assert_allclose(found[columns].sum(axis=1), 1, rtol=1e-5)
    best = found[columns].to_numpy().argmax(1)
    assert found.predicted_morph.tolist() == [sorted(NAMES)[i] for i in best]


def test_intervals_of_numbers_hold_as_many_as_they_say_and_are_in_units(place):
    model = saved_model(place, "number-linear")
    found = model.predict(place / "in")
    truth = pd.read_csv(place / "in" / "catalog.csv").mag
    inside = (found.predicted_mag_low95 <= truth) & (truth <= found.predicted_mag_high95)
    assert inside.mean() > 0.85 and found.predicted_mag.min() > -24 and found.predicted_mag.max() < -18
    assert (found.predicted_mag_low95 < found.predicted_mag_low50).all()
    fractions = saved_model(place, "fraction-full").predict(place / "in")
    assert fractions.predicted_part_low95.min() >= 0 and fractions.predicted_part_high95.max() <= 1


@pytest.mark.parametrize("kind", ["votes-linear", "votes-full"])
def test_vote_fractions_follow_the_tree(place, kind):
    found = saved_model(place, kind).predict(place / "in" / "images")
    schema = load_schema("gz2")
    for question in schema.questions:
        fractions = found[[f"{answer}_fraction" for answer in question.label_cols]]
        np.testing.assert_allclose(fractions.sum(axis=1), 1, rtol=1e-5)
        for answer in question.label_cols:
            ends = found[[f"{answer}_fraction_{end}" for end in ("low95", "low50", "high50", "high95")]].to_numpy()
            assert (np.diff(ends, axis=1) >= 0).all() and ends.min() >= 0 and ends.max() <= 1
    assert (found["smooth-or-featured-gz2_asked"] == 1).all()
    expected = found["smooth-or-featured-gz2_featured-or-disk_fraction"] * found["has-spiral-arms-gz2_yes_fraction"]
    for name in ("spiral-winding-gz2", "spiral-arm-count-gz2"):
        assert schema[name].asked_after == "has-spiral-arms-gz2_yes"
        np.testing.assert_allclose(found[f"{name}_asked"], expected * leads(schema, found), rtol=1e-5)


def test_images_come_as_arrays_files_bytes_and_survey(place):
    model = saved_model(place, "classes-linear")
    survey = configured(place, "classes-linear")[1]
    data = open_survey(make_survey(survey))
    files = sorted((place / "in" / "images").glob("*.png"))
    of_files = model.predict(files)
    of_survey = model.predict(data).set_index("id_str").loc[[f.stem for f in files]]
    probability = [c for c in of_files if c.startswith("probability")]
    reference = of_files[probability].to_numpy()
    for others in (
        of_survey,
        model.predict(np.stack([np.asarray(Image.open(f)) for f in files])),
        model.predict([f.read_bytes() for f in files]),
        model.predict([Image.open(f) for f in files]),
        model.predict(str(place / "in" / "images")),
    ):
        np.testing.assert_array_equal(others[probability].to_numpy(), reference)
    assert of_files.id_str.tolist() == [str(f) for f in files]
    assert len(model.predict(files[0])) == len(model.predict(np.asarray(Image.open(files[0])))) == 1
    assert model.embed(files[:3]).shape == (3, 32)
    for bad, says in (([], "no images"), (3.0, "not for float"), (np.zeros((2, 40, 40, 3)), "blank image")):
        with pytest.raises(UserError, match=says):
            model.predict(bad)


PIXELS = np.random.default_rng(0).integers(0, 256, (4, 20, 20, 3), dtype=np.uint8)
GREY = np.repeat(PIXELS[..., :1], 3, axis=-1)
FIRST_BANDS = PIXELS.transpose(0, 3, 1, 2)


def pixels_of(source):
    """What a model of 20 px would see, and the problems."""
    _, pictures = next(iter(predicting.galaxies_of(source, Frame(20)).parts()))
    with ThreadPoolExecutor(1) as pool:
        return predicting._decoded(pictures, Frame(20), pool)


@pytest.mark.fault("images in Python: arrays, tensors and Pillow's", "read")
@pytest.mark.parametrize(
    ("source", "wanted"),
    [
        (PIXELS, PIXELS),
        (PIXELS / 255, PIXELS),
        ((PIXELS / 255).astype(np.float32), PIXELS),
        (PIXELS.astype(float), PIXELS),
        (PIXELS.astype(np.int64), PIXELS),
        (PIXELS.astype(np.uint16) * 257, PIXELS),
        (FIRST_BANDS, PIXELS),
        (FIRST_BANDS[0] / 255, PIXELS[:1]),
        (PIXELS[0], PIXELS[:1]),
        (torch.from_numpy(FIRST_BANDS.copy()) / 255, PIXELS),
        (torch.from_numpy(PIXELS).bfloat16(), PIXELS),
        (torch.from_numpy(PIXELS).float().requires_grad_(), PIXELS),
        (GREY[..., 0], GREY),
        (GREY[..., :1], GREY),
        (GREY[..., :1].transpose(0, 3, 1, 2), GREY),
        (GREY[0, ..., 0] / 255, GREY[:1]),
        (list(FIRST_BANDS / 255), PIXELS),
        (tuple(torch.from_numpy(PIXELS)), PIXELS),
        ([PIXELS[0], np.repeat(np.repeat(PIXELS[1], 2, 0), 2, 1)[::2, ::2], PIXELS[2] / 255], PIXELS[:3]),
        ([Image.fromarray(one) for one in PIXELS], PIXELS),
        (Image.fromarray(PIXELS[0]), PIXELS[:1]),
        (Image.fromarray(GREY[0, ..., 0]), GREY[:1]),
        (Image.fromarray(GREY[0, ..., 0].astype(np.uint16) * 257), GREY[:1]),
        (Image.fromarray(PIXELS[0]).convert("RGBA"), PIXELS[:1]),
        (saved(Image.fromarray(PIXELS[0]), "PNG"), PIXELS[:1]),
    ],
)
def test_images_in_any_order_of_axes_and_range_are_the_same_images(source, wanted):
    found, problems = pixels_of(source)
    assert problems == [""] * len(wanted)
    np.testing.assert_array_equal(found, wanted)


@pytest.mark.fault("images in Python: arrays, tensors and Pillow's", "refused in one sentence")
@pytest.mark.parametrize(
    ("source", "says"),
    [
        ((PIXELS / 255 - 0.5) / 0.2, "between -2.5 and 2.5; give 0..255 or 0..1, without mean and deviation"),
        (PIXELS * 10.0, "between 0 and 2550"),
        (np.where(PIXELS == 3, np.nan, PIXELS / 255), "not finite"),
        (np.concatenate([PIXELS, PIXELS[..., :1]], -1), r"shape \(4, 20, 20, 4\)"),
        (PIXELS[None], r"shape \(1, 4, 20"),
        (PIXELS > 3, "bool"),
        (PIXELS.astype(str), "holds no images"),
        (PIXELS[:0], "no images"),
        ([], "no images"),
        ([None, PIXELS[0]], "not NoneType"),
        (PIXELS.tolist(), "not list"),
        ({"images": PIXELS}, "not for dict"),
        (" ", "blank"),
    ],
)
def test_arrays_that_are_no_images_are_one_sentence(source, says):
    with pytest.raises(UserError, match=says):
        pixels_of(source)


def test_an_image_of_pillows_is_as_its_file_and_stays_as_it_is():
    """Turned as its EXIF data say, and refused where a file would be."""
    exif = Image.Exif()
    exif[0x0112] = 6
    file = io.BytesIO()
    Image.fromarray(PIXELS[0]).save(file, "PNG", exif=exif)
    opened = Image.open(io.BytesIO(file.getvalue()))
    np.testing.assert_array_equal(pixels_of(opened)[0], pixels_of(file.getvalue())[0])
    np.testing.assert_array_equal(np.asarray(opened), PIXELS[0])
    clear = Image.fromarray(np.concatenate([PIXELS[0], PIXELS[0, ..., :1]], -1))
    assert pixels_of(clear)[1][0].startswith("transparent image")


@pytest.mark.parametrize("what", ["features", "outputs"])
def test_features_and_outputs_are_of_arrays_at_the_models_size(place, what):
    look = getattr(saved_model(place, "classes-linear"), what)
    assert len(look(np.zeros((2, SIZE, SIZE, 3), np.uint8))) == 2
    for given, found in (([np.zeros((SIZE, SIZE, 3), np.uint8)], "a list"), (np.zeros((2, 9, 9, 3)), "(2, 9, 9, 3)")):
        with pytest.raises(UserError, match=re.escape(f"3) uint8, not of {found}") + ".*predict and embed take lists"):
            look(given)


def test_a_model_sees_of_wider_images_what_it_learned_from(place, tmp_path, capsys):
    config, survey = configured(place, "classes-linear")
    whole = make_survey(survey, progress=False)
    (tmp_path / "wide" / "images").mkdir(parents=True)
    pixels = open_survey(whole).images.values
    for id_str, image in zip(open_survey(whole).id_str.values, pixels, strict=True):
        wide = np.random.default_rng(0).integers(0, 256, (80, 80, 3), np.uint8)
        wide[24:56, 24:56] = image
        Image.fromarray(wide).save(tmp_path / "wide" / "images" / f"{id_str}.png")
    shutil.copy(place / "in" / "catalog.csv", tmp_path / "wide")
    survey = replace(survey, source=str(tmp_path / "wide"), central_fraction=0.4)
    record = run(config, survey, conduct=Conduct(report=quiet))
    model = save_run(config, survey, record, tmp_path / "model", device="cpu")
    assert model.config.image.central_fraction == 0.4 == model.config.training["survey"]["central_fraction"]

    model, as_before = load_model(tmp_path / "model", device="cpu"), saved_model(place, "classes-linear")
    folder = tmp_path / "wide" / "images"
    expected = as_before.predict(pixels).drop(columns="id_str")
    order = np.argsort(open_survey(whole).id_str.values)
    for found in (model.predict(folder), model.predict([Image.open(path) for path in sorted(folder.glob("*"))])):
        pd.testing.assert_frame_equal(found.drop(columns="id_str"), expected.iloc[order].reset_index(drop=True))
    for source in (pixels, open_survey(make_survey(survey, progress=False))):  # of these the centre is taken already
        pd.testing.assert_frame_equal(model.predict(source).drop(columns="id_str"), expected)
    assert model.evaluate(str(tmp_path / "wide")) == as_before.evaluate(str(place / "in"))

    out = tmp_path / "found.csv"
    command = ["predict", str(place / "classes-linear"), str(folder), "--out", str(out), "--central-fraction"]
    assert main([*command, "0.4"]) == 0
    np.testing.assert_array_equal(pd.read_csv(out).predicted_morph, expected.predicted_morph.iloc[order])
    assert main([*command, "1.5", "--force"]) == 2
    assert "central_fraction=1.5 is no part of an image's side" in capsys.readouterr().err
    assert main([*command, "0.3", "--force"]) == 2
    assert "24 px, the centre of 80 px, is smaller than the survey's 32 px" in capsys.readouterr().err


def test_what_cannot_be_read_is_listed_and_too_small_images_are_refused(place, tmp_path, capsys):
    model = saved_model(place, "classes-linear")
    shutil.copytree(place / "in" / "images", tmp_path / "images")
    (tmp_path / "images" / "J000+00.png").write_bytes(b"no image")
    Image.new("RGB", (20, 20)).save(tmp_path / "images" / "J001+01.png")
    Image.new("RGB", (40, 40)).save(tmp_path / "images" / "J999.bmp")
    found = model.predict(tmp_path / "images")
    assert found.problem[0].startswith("unreadable image") and "20 px is smaller" in found.problem[1]
    assert found.iloc[:2, 1:-1].isna().all(axis=None) and found.iloc[2:, 1:-1].notna().all(axis=None)
    command = ["predict", str(place / "classes-linear"), str(tmp_path / "images"), "--out", str(tmp_path / "p.csv")]
    assert main(command) == 0
    printed = capsys.readouterr()
    assert "80 galaxies, 2 of them without a usable image" in printed.out and "J001+01" in printed.err
    assert "that are not images: 1, e.g. J999.bmp" in printed.err
    read = pd.read_csv(tmp_path / "p.csv")
    assert read.problem.notna().sum() == 2 and len(read) == N
    assert main(command) == 2 and "already exists" in capsys.readouterr().err
    assert main([*command, "--force"]) == 0
    for file in (tmp_path / "images").glob("*"):
        Image.new("RGB", (20, 20)).save(file)
    assert main([*command, "--force"]) == 2
    assert "None of the 80 images" in capsys.readouterr().err
    (tmp_path / "empty").mkdir()
    assert main(["predict", command[1], str(tmp_path / "empty"), "--out", str(tmp_path / "q.csv")]) == 2
    assert not (tmp_path / "q.csv").exists() and not list(tmp_path.glob(".q*"))


def test_a_catalogue_needs_no_labels_and_ids_stay_as_they_are(place, tmp_path):
    names = sorted(file.name for file in (place / "in" / "images").glob("*"))[:5]
    ids = ["007", "588017702411763744", "J1+2", "a/b", "007"]
    files = [str(place / "in" / "images" / name) for name in names]
    pd.DataFrame({"id_str": ids, "file_loc": files, "label": "?"}).to_csv(tmp_path / "new.csv", index=False)
    model = saved_model(place, "classes-linear")
    write_predictions(model, str(tmp_path / "new.csv"), tmp_path / "p.parquet", progress=False)
    assert pq.read_table(tmp_path / "p.parquet")["id_str"].to_pylist() == ids
    columns, images = {"id_str": ids}, [(place / "in" / "images" / name).read_bytes() for name in names]
    source = write_table(tmp_path / "evo", "embedded", columns, images)
    assert model.predict(str(source)).id_str.tolist() == ids


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_a_file_resumed_is_equal_to_one_made_at_once(place, tmp_path, suffix, monkeypatch):
    monkeypatch.setattr("gzlib.data.sources.readers.CATALOGUE_ROWS", 16)
    model = saved_model(place, "votes-full")
    source, whole, cut = str(place / "in" / "images"), tmp_path / f"whole{suffix}", tmp_path / f"cut{suffix}"
    write_predictions(model, source, whole, progress=False)
    made, computed = predicting._part_table, []

    def dying(*args):
        computed.append(1)
        if len(computed) == 3:
            raise KeyboardInterrupt
        return made(*args)

    monkeypatch.setattr(predicting, "_part_table", dying)
    with pytest.raises(KeyboardInterrupt):
        write_predictions(model, source, cut, progress=False)
    assert not cut.exists() and len(list((tmp_path / f".{cut.name}.partial").glob("part-*"))) == 2
    write_predictions(model, source, cut, progress=False)
    assert len(computed) == 3 + 3 and cut.read_bytes() == whole.read_bytes()
    assert sorted(file.name for file in tmp_path.iterdir()) == sorted([whole.name, cut.name])


@pytest.mark.parametrize("damage", ["empty", "cut", "other", "one byte", "gone", "earlier"])
def test_a_part_that_was_damaged_is_made_again(place, tmp_path, damage, monkeypatch):
    monkeypatch.setattr("gzlib.data.sources.readers.CATALOGUE_ROWS", 16)
    model = saved_model(place, "votes-full")
    source, whole, cut = str(place / "in" / "images"), tmp_path / "whole.csv", tmp_path / "cut.csv"
    write_predictions(model, source, whole, progress=False)
    with monkeypatch.context() as patch:
        patch.setattr(predicting, "_join_csv", lambda files, target: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            write_predictions(model, source, cut, progress=False)
    for part in sorted((tmp_path / ".cut.csv.partial").glob("part-*"))[::2]:
        content = part.read_bytes()
        middle = len(content) // 2
        changed = {"empty": b"", "cut": content[:middle], "other": b"PAR1" * 99, "earlier": content[:-32]}
        changed["one byte"] = content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
        part.write_bytes(changed.get(damage, b""))
        if damage == "gone":
            part.unlink()
    write_predictions(model, source, cut, progress=False)
    assert cut.read_bytes() == whole.read_bytes() and not (tmp_path / ".cut.csv.partial").exists()


def test_a_file_whose_making_is_killed_at_any_moment_comes_out_equal(tmp_path):
    command = [sys.executable, Path(__file__).parents[1] / "crash_program.py", tmp_path, "predictions"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=paths.ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    ends = json.loads(done.stdout)
    assert len(ends) > 20 and {killed for killed, _ in ends.values()} == {-9}
    # Once nothing but its lock is left to remove, a file is complete, and the next command refuses to replace it.
    unequal = [name for name, (_, again) in ends.items() if again]
    assert unequal in ([], [name for name in ends if name.startswith("writing")][-1:])
    for suffix in ("csv", "parquet"):
        made = {file.name: file.read_bytes() for file in (tmp_path / suffix).iterdir()}
        assert made.keys() == {f"whole.{suffix}"} | {name for name in ends if name.endswith(suffix)}
        assert set(made.values()) == {made[f"whole.{suffix}"]}


def test_another_model_does_not_go_on_from_ones_parts(place, tmp_path, monkeypatch):
    source, out = str(place / "in" / "images"), tmp_path / "p.csv"
    with monkeypatch.context() as patch:
        patch.setattr(predicting, "_join_csv", lambda files, target: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            write_predictions(saved_model(place, "classes-linear"), source, out, progress=False)
    write_predictions(saved_model(place, "codes-linear"), source, out, progress=False)
    assert "predicted_codes" in out.read_text().splitlines()[0]
    (tmp_path / ".q.csv.partial").mkdir()
    (tmp_path / ".q.csv.partial" / "mine.txt").write_text("mine")
    with pytest.raises(UserError, match="did not make"):
        write_predictions(saved_model(place, "codes-linear"), source, tmp_path / "q.csv", progress=False)


def test_features_are_written_as_they_are(place, tmp_path):
    model, out = saved_model(place, "classes-full"), tmp_path / "f.parquet"
    assert main(["embed", str(place / "classes-full"), str(place / "in"), "--out", str(out)]) == 0
    found = pd.read_parquet(out)
    np.testing.assert_array_equal(found.filter(like="feature_").to_numpy(), model.embed(str(place / "in")))
    assert found.shape == (N, 2 + 32)


@pytest.mark.parametrize("kind", ["classes-linear", "codes-linear", "number-full", "votes-full"])
def test_evaluate_finds_the_test_error_of_the_run(place, kind, tmp_path, capsys):
    model = saved_model(place, kind)
    config, survey = configured(place, kind)
    out = tmp_path / "scores.json"
    command = ["evaluate", str(place / kind), survey.source, "--schema", "gz2", "--out", str(out)]
    assert main(command) == 0
    found, printed = json.loads(out.read_text()), capsys.readouterr().out
    assert found["part"] == "test" and found["error"] == pytest.approx(model.config.metrics["error"])
    assert "20 galaxies (test): error" in printed
    if kind == "classes-linear":
        assert np.sum(found["confusion"]) == found["n"] and 0 <= found["calibration_error"] <= 1
        assert 0 <= found["auc"] <= 1 and found["balanced_accuracy"] == pytest.approx(
            run(config, survey, conduct=Conduct(report=quiet))["metrics"]["balanced_accuracy"], rel=1e-5
        )
        assert model.evaluate(open_survey(make_survey(survey)), part="all")["n"] == N
        with pytest.raises(UserError, match="not a class of the model"):
            model.evaluate(open_survey(make_survey(survey)), label="codes")


def test_pretraining_is_saved_as_a_model_of_votes(place, tmp_path):
    survey = SurveySpec(str(place / "in"), size=SIZE, split="published", schema="gz2")
    config = PretrainConfig("convnext_w4", 36, recipe=SHORT)
    record = run(config, survey, need_weights=True, conduct=Conduct(report=quiet))
    model = save_run(config, survey, record, tmp_path / "out", device="cpu")
    assert model.config.head.kind == "votes" and model.config.training["kind"] == "pretrain"
    found = load_model(tmp_path / "out", device="cpu").predict(str(place / "in" / "images"))
    assert "bar-gz2_yes_fraction_high95" in found


def test_a_model_is_not_saved_from_another_survey_than_its_run_learned_from(place, tmp_path):
    shutil.copytree(place / "in", tmp_path / "in")
    config, _ = configured(place, "classes-linear")
    survey = SurveySpec(str(tmp_path / "in"), size=SIZE, split="published", schema="gz2")
    record = run(config, survey, conduct=Conduct(report=quiet))
    catalog = tmp_path / "in" / "catalog.csv"
    pd.read_csv(catalog).iloc[:-1].to_csv(catalog, index=False)
    with pytest.raises(UserError, match=f"not the one that run '{record['key']}' learned from.* run the same command"):
        save_run(config, survey, record, tmp_path / "out", device="cpu")
    assert not (tmp_path / "out").exists()


def test_an_own_decision_tree_goes_with_the_model(place, tmp_path, capsys):
    n, rng = 40, np.random.default_rng(1)
    tree = [
        {"question": "shell", "answers": ["_yes", "_no"], "asked_after": None},
        {"question": "side", "answers": ["_left", "_right", "_both"], "asked_after": "shell_yes"},
    ]
    (tmp_path / "mine.json").write_text(json.dumps(tree))
    yes = rng.integers(2, 20, n)
    files = sorted((place / "in" / "images").glob("*.png"))[:n]
    columns = {"id_str": [f.stem for f in files], "file_loc": [str(f) for f in files]}
    columns |= {"shell_yes": yes, "shell_no": 20 - yes, "side_left": yes // 2, "side_right": yes - yes // 2 - 1}
    columns |= {"side_both": 1, "split": ["test" if i % 3 == 0 else "train" for i in range(n)]}
    pd.DataFrame(columns).to_csv(tmp_path / "catalog.csv", index=False)
    command = ["finetune", "--survey", str(tmp_path / "catalog.csv"), "--schema", str(tmp_path / "mine.json")]
    command += ["--size", "32", "--split", "published", "--label", "votes", "--encoder", "resnet_w4"]
    assert main([*command, "--weights", "random", "--out", str(tmp_path / "model")]) == 0
    (tmp_path / "mine.json").unlink()
    found = load_model(tmp_path / "model").predict(str(tmp_path / "catalog.csv"))
    np.testing.assert_allclose(found.side_asked, found.shell_yes_fraction)
    assert "side_both_fraction_high95" in found and "<" not in found.columns
    capsys.readouterr()
    assert main(["evaluate", str(tmp_path / "model"), str(tmp_path / "catalog.csv")]) == 0
    assert "14 galaxies (test)" in capsys.readouterr().out


def test_that_another_survey_may_hold_galaxies_trained_on_is_told(place, tmp_path, capsys):
    saved_model(place, "classes-linear")
    shutil.copytree(place / "in", tmp_path / "other")
    pd.read_csv(tmp_path / "other" / "catalog.csv")[1:].to_csv(tmp_path / "other" / "catalog.csv", index=False)
    command = ["evaluate", str(place / "classes-linear"), str(tmp_path / "other"), "--schema", "gz2"]
    for more, told in (([], True), (["--part", "all"], False)):
        assert main([*command, *more]) == 0
        printed = capsys.readouterr()
        assert f"{N - 1} galaxies (all): error" in printed.out and ("trained on" in printed.err) == told


def changed(folder, change, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    config = json.loads((copy / "config.json").read_text())
    change(config)
    (copy / "config.json").write_text(json.dumps(config))
    return copy


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda c: c.update(encoder="resnet_w5"), "has 40 features here, and the model 32"),
        (lambda c: c.update(encoder="convnext_w4"), "not those of encoder 'convnext_w4'.*missing"),
        (lambda c: c.update(gzlib="99.0.0"), "saved by gzlib 99.0.0 .* pip install -U"),
        (lambda c: c.update(format=2), "format 2.*format 1"),
        (lambda c: c["head"]["classes"].pop(), "two or more names"),
        (lambda c: c["image"].update(size="big"), "'image.size' is 'big'"),
        (lambda c: c["image"].update(std=[0.1, 0.0, 0.1]), "greater than 0"),
        (lambda c: c.pop("head"), "'head' is missing"),
        (lambda c: c["calibration"].update(temperature=-1.0), "temperature"),
        (lambda c: c["calibration"].update(temperature=float("nan")), "'calibration.temperature' is nan"),
        (lambda c: c.update(architecture="resnet18"), "a network as timm saves it"),
        (lambda c: c["image"].update(mean=[float("nan")] * 3), "'image.mean.0' is nan"),
        (lambda c: c.update(format=0), "'format' is 0"),
        (lambda c: c["head"]["classes"].__setitem__(0, ""), "'head.classes.0' is ''"),
        (lambda c: c["head"].update(classes=["a", "a", "b"]), "each once"),
        (lambda c: c["head"].update(kind="number"), "must have the levels"),
        (lambda c: c.update(encoder="hf-hub:timm/resnet18"), "Unknown encoder"),
        (
            lambda c: (
                c["head"].update(kind="number")
                or c["calibration"].update(half_widths={"50": 9.0, "80": 2.0, "95": 1.0})
            ),
            "must grow with the level",
        ),
    ],
)
@pytest.mark.fault("saved models edited by hand", "refused in one sentence")
def test_a_model_that_cannot_be_used_is_one_sentence(place, tmp_path, change, says):
    saved_model(place, "classes-full")
    with pytest.raises(UserError, match=says) as caught:
        load_model(changed(place / "classes-full", change, tmp_path))
    assert "\n" not in str(caught.value)


def test_damaged_weights_and_other_folders_are_no_model(place, tmp_path):
    saved_model(place, "classes-full")
    copy = changed(place / "classes-full", lambda c: None, tmp_path)
    content = bytearray((copy / "model.safetensors").read_bytes())
    content[-5] ^= 1
    (copy / "model.safetensors").write_bytes(content)
    with pytest.raises(UserError, match="damaged"):
        load_model(copy)
    with pytest.raises(UserError, match="not a saved model"):
        load_model(tmp_path)


@pytest.mark.fault("saved models edited by hand", "refused in one sentence")
@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda s: s.update(spare=torch.zeros(1)), "'spare' is unknown"),
        (lambda s: s.pop("head.linear.bias"), "'head.linear.bias' is missing"),
        (lambda s: s.update({"head.linear.bias": s["head.linear.bias"].int()}), "is of torch.int32"),
        (lambda s: s.update({"head.linear.bias": s["head.linear.bias"] * torch.nan}), "not finite"),
    ],
)
def test_weights_that_are_not_the_models(place, tmp_path, change, says):
    saved_model(place, "classes-full")
    copy = changed(place / "classes-full", lambda c: None, tmp_path)
    state = load_file(copy / "model.safetensors")
    change(state)
    save_file(state, copy / "model.safetensors")
    with pytest.raises(UserError, match=says):
        load_model(copy)


@pytest.mark.fault("saved models edited by hand", "read")
def test_a_model_moved_renamed_and_edited_elsewhere_predicts_the_same(place, tmp_path):
    """Without its card and marker, under another name, with Windows' line ends and byte order mark, in half."""
    model = saved_model(place, "classes-full")
    copy = shutil.move(changed(place / "classes-full", lambda c: c.update(more=1), tmp_path), tmp_path / "mödel ✨")
    for name in ("README.md", "figures.html", ".gzlib.json"):
        (copy / name).unlink(missing_ok=True)
    text = (copy / "config.json").read_bytes().replace(b"\n", b"\r\n")
    (copy / "config.json").write_bytes(b"\xef\xbb\xbf" + text)
    state = load_file(copy / "model.safetensors")
    save_file({n: v.half() if v.is_floating_point() else v for n, v in state.items()}, copy / "model.safetensors")
    (tmp_path / "link").symlink_to(copy)
    files = sorted((place / "in" / "images").glob("*.png"))[:8]
    found, wanted = (m.predict(files).filter(like="probability") for m in (load_model(tmp_path / "link"), model))
    np.testing.assert_allclose(found, wanted, atol=0.01)


@pytest.mark.fault("names of models and of files to write", "refused in one sentence")
@pytest.mark.parametrize(
    ("folder", "says"),
    [(None, "not from NoneType"), (b"a", "not from bytes"), ("a\0b", "not a path"), ("x" * 5000, "too long"),
     ("hf_hub:x", "OWNER/NAME"), ("hf_hub:nobody/nothing", "could not be reached"), ("", "not a saved model")],
)  # fmt: skip
def test_what_names_no_model(folder, says, monkeypatch):
    monkeypatch.setattr("gzlib.data.sources.registry.hub_reachable", lambda: False)
    with pytest.raises(UserError, match=says) as caught:
        load_model(folder)
    assert len(str(caught.value)) < 250


@pytest.mark.fault("names of models and of files to write", "refused in one sentence")
@pytest.mark.parametrize(
    ("name", "says"),
    [("x" * 300 + ".csv", "too long"), ("x" * 245 + ".csv", "too long"), ("a\0b.csv", "null byte"),
     ("p.txt", "neither a .csv"),
     ("~no-such-user/p.csv", "not a path for a file"),
     ("/proc/p.csv", "could not be written"), ("p.csv.gz", "neither")],
)  # fmt: skip
def test_where_no_predictions_can_be_written(place, tmp_path, monkeypatch, name, says):
    monkeypatch.chdir(tmp_path)
    model = saved_model(place, "classes-linear")
    with pytest.raises(UserError, match=says):
        write_predictions(model, str(place / "in" / "images"), name, progress=False)
    assert not list(tmp_path.iterdir())


def test_where_no_image_can_be_used_nothing_stays(place, tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.png").write_bytes(b"x")
    with pytest.raises(UserError, match="None of the 1 images"):
        write_predictions(
            saved_model(place, "classes-linear"), str(tmp_path / "in"), tmp_path / "p.csv", progress=False
        )
    assert [file.name for file in tmp_path.iterdir()] == ["in"]


def test_a_folder_with_somebodys_file_is_refused_before_training(place, tmp_path, capsys, monkeypatch):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    command = ["finetune", "--survey", str(place / "in"), "--label", "morph", "--encoder", "resnet_w4", "--size", "32"]
    command += ["--weights", "random", "--split", "published", "--store", str(tmp_path / "runs")]
    monkeypatch.setattr(paths, "STORE", paths.STORE)
    assert main([*command, "--out", str(tmp_path / "mine")]) == 2
    assert "holds 'notes.txt'" in capsys.readouterr().err and not list((tmp_path / "runs").glob("*/run.json"))
    assert main([*command, "--out", str(tmp_path / "out")]) == 0
    printed = capsys.readouterr().out
    assert "commonest class: " in printed and "balanced accuracy: " in printed
    assert main([*command, "--out", str(tmp_path / "out")]) == 0  # its own folder is replaced
    assert (tmp_path / "mine" / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize(
    ("label", "mode"),
    [
        ("morph", "linear"),
        ("mag", "linear"),
        ("votes", "full"),
        pytest.param("part", "full", marks=pytest.mark.long),
        pytest.param("morph", "full", marks=pytest.mark.long),
    ],
)
def test_timm_loads_an_export_bit_for_bit(place, tmp_path, label, mode):
    config = FinetuneConfig("t", "resnet10t", 36, label=label, mode=mode, recipe=SHORT)
    survey = SurveySpec(str(place / "in"), size=SIZE, split="published", schema="gz2")
    record = run(config, survey, need_weights=mode == "full", conduct=Conduct(report=quiet))
    model = save_run(config, survey, record, tmp_path / "model", device="cpu")
    export(model, tmp_path / "out")
    network = timm.create_model(f"local-dir:{tmp_path / 'out'}", pretrained=True).eval()
    pixels = open_survey(make_survey(survey)).images.values[:5]
    encoder = model.network.encoder
    with torch.no_grad():
        images = torch.from_numpy(pixels.copy()).permute(0, 3, 1, 2).float() / 255
        found = network((images - encoder.mean) / encoder.std)
    wanted = torch.from_numpy(model.outputs(pixels))
    if label == "votes":
        found = torch.sigmoid(found) * CONCENTRATION_RANGE + CONCENTRATION_MIN
    elif label != "morph":
        found = found.squeeze(1) if label == "mag" or mode == "linear" else torch.sigmoid(found).squeeze(1)
    for name, value in encoder.network.state_dict().items():
        assert torch.equal(value, network.state_dict()[name])
    if label == "mag":
        torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)
    else:
        assert torch.equal(found, wanted)
    settings = timm.data.resolve_data_config(model=network)
    assert settings["input_size"] == (3, SIZE, SIZE) and settings["crop_pct"] == 1.0
    if label == "morph":
        assert network.pretrained_cfg["label_names"] == sorted(NAMES)


def test_a_full_disk_is_not_told_of_the_encoder_as_onnx(place, tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(torch.onnx, "export", full)
    with pytest.raises(NotWritten, match="model.onnx' could not be written .No space left on device.; free space"):
        export(saved_model(place, "classes-full"), tmp_path / "out", form="onnx")
    assert not list(tmp_path.iterdir())


def test_the_ladder_is_exported_as_onnx_only(place, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    model = saved_model(place, "classes-full")
    with pytest.raises(UserError, match="this project's own"):
        export(model, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    export(model, tmp_path / "out", form="onnx")
    session = onnxruntime.InferenceSession(str(tmp_path / "out" / "model.onnx"), providers=["CPUExecutionProvider"])
    pixels = np.random.default_rng(0).integers(0, 256, (3, SIZE, SIZE, 3), dtype=np.uint8)
    images = np.ascontiguousarray(pixels.transpose(0, 3, 1, 2), np.float32) / 255
    found, features = session.run(None, {"images": images})
    np.testing.assert_allclose(found, model.probabilities(model.outputs(pixels)), atol=1e-5)
    np.testing.assert_allclose(features, model.features(pixels), rtol=1e-3, atol=1e-4)


def test_a_model_is_pushed_without_its_figures(place, monkeypatch):
    saved_model(place, "classes-linear")
    calls = SimpleNamespace(made=None, sent=None)

    class Hub:
        def create_repo(self, name, **options):
            calls.made = (name, options)
            return f"https://huggingface.co/{name}"

        def upload_folder(self, **options):
            calls.sent = options

    monkeypatch.setattr("huggingface_hub.HfApi", Hub)
    assert main(["push", str(place / "classes-linear"), "me/rings", "--private"]) == 0
    assert calls.made == ("me/rings", {"private": True, "exist_ok": True})
    assert (
        calls.sent["folder_path"] == str(place / "classes-linear") and "figures.html" in calls.sent["ignore_patterns"]
    )
    push(place / "classes-linear", "me/rings", figures=True)
    assert "figures.html" not in calls.sent["ignore_patterns"] and ".gzlib.json" in calls.sent["ignore_patterns"]
    for name in ("rings", "a/b/c", "me/ri ngs"):
        with pytest.raises(UserError, match="write OWNER/NAME"):
            push(place / "classes-linear", name)

    def refuse(self, name, **options):
        raise OSError("401 Unauthorized")

    Hub.create_repo = refuse
    with pytest.raises(UserError, match="401 Unauthorized.*hf auth login"):
        push(place / "classes-linear", "me/rings")


def test_the_probe_without_a_label_did_not_see_it(place):
    config, survey = configured(place, "number-linear")
    task = prepare_task(config, survey)
    _, left_out = probe_model(config, task, choose_device("cpu"))
    truth = task.target.values[task.subset]
    assert left_out.shape == truth.shape
    assert np.sqrt(np.mean((left_out - truth) ** 2)) < 1.2 * truth.std()
