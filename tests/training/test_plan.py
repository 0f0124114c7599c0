"""Plans and settings: what a TOML file or ``--set`` says, and the sentences where it says something wrong."""

import datetime
import math
import tomllib
from dataclasses import fields, replace
from functools import partial
from pathlib import Path

import pytest

from gzlib import paths
from gzlib.config import (
    FINETUNING,
    Augment,
    Conduct,
    FinetuneConfig,
    Objective,
    PretrainConfig,
    Recipe,
    SurveySpec,
    config_dict,
    config_from_dict,
    fill,
    grid,
    parse_settings,
    survey_from_dict,
)
from gzlib.errors import UserError
from gzlib.files import held
from gzlib.models import build_encoder
from gzlib.study import preset_jobs, study_recipe
from gzlib.study.presets import pretraining_study
from gzlib.training.runs import LOCK, key_of
from gzlib.training.sweeps import jobs_of, plan_notes, plan_table, read_plan, state_of, sweep

PLAN = """
[survey]
source = "sim:gz2:400"
size = 32

[recipe]
examples = 640

[[pretrain]]
name = "galaxies"
encoder = ["convnext_w4", "resnet_w4"]
n_train = [60, 120]
seed = [0, 1]
recipe = { learning_rate = [1e-3, 3e-3], augment = { zoom = [1.0, 1.5] } }

[[pretrain]]
encoder = "convnext_w5"
survey = { size = 48 }
n_train = 60

[[finetune]]
task = "rings"
survey = { source = "sim:rings:200" }
label = "ring_fraction"
encoder = "resnet_w4"
weights = ["random", "galaxies"]
mode = "full"
n_train = 50
recipe = { patience = 2 }
"""


def jobs(text):
    return jobs_of(tomllib.loads(text), "plan.toml", preset=preset_jobs)


def test_lists_stand_for_every_combination():
    listed = jobs(PLAN)
    assert len({key_of(*job) for job in listed}) == len(listed) == 2 * 2 * 2 * 2 + 1 + (1 + 8)
    first, survey = listed[0]
    assert (first.encoder, first.n_train, first.seed) == ("convnext_w4", 60, 0)
    assert (survey.source, survey.size) == ("sim:gz2:400", 32)
    assert (first.recipe.examples, first.recipe.learning_rate, first.recipe.augment.zoom) == (640, 1e-3, (1.0, 1.5))
    assert first.recipe.weight_decay == study_recipe("convnext_w4", 60).weight_decay
    assert first.recipe.most_examples(60) == 640  # although the study counts in epochs
    assert listed[16][1].size == 48
    assert listed[16][1].source == "sim:gz2:400"


def test_finetuning_starts_from_the_runs_of_a_table_with_its_encoder():
    listed = jobs(PLAN)
    pretrained = {key_of(*job) for job in listed[:16] if job[0].encoder == "resnet_w4"}
    downstream = [config for config, _ in listed[17:]]
    assert next(config.weights for config in downstream) == "random"
    assert {config.weights for config in downstream[1:]} == pretrained
    assert {config.recipe.examples for config in downstream} == {FINETUNING.examples}  # [recipe] is of pretraining
    assert downstream[0].recipe.patience == 2
    with pytest.raises(UserError, match="'galaxies' pretrains no encoder 'resnet_w9'"):
        jobs(PLAN.replace('encoder = "resnet_w4"', 'encoder = "resnet_w9"'))


def test_the_same_as_in_python():
    config, survey = jobs('[survey]\nsource="sim:gz2:400"\n[[pretrain]]\nencoder="convnext_w4"\nn_train=60')[0]
    assert config == PretrainConfig("convnext_w4", 60)
    assert survey.size == 64


def test_all_galaxies_where_no_number_is_given(own_store):
    listed = jobs('[survey]\nsource="sim:gz2:120"\nsize=16\n[[pretrain]]\nencoder="convnext_w4"')
    assert 70 < listed[0][0].n_train < 100


def test_a_preset_stands_for_its_study():
    listed = jobs('preset = "smoke"')
    assert listed == preset_jobs("smoke")
    assert listed[:16] == pretraining_study("smoke").jobs()
    made = set()
    for config, survey in listed:  # weights come before what starts from them
        assert config.weights in made | {"random", "imagenet"}
        made.add(key_of(config, survey))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ("seed = [0, 1]>sed = [0, 1]", r"plan.toml, \[\[pretrain\]\] 1: unknown key 'sed'; did you mean 'seed'"),
        ("[recipe]>[recipies]", "plan.toml: unknown key 'recipies'; did you mean 'recipe'"),
        ("examples = 640>example = 640", r"plan.toml, \[recipe\]: unknown key 'example'; did you mean 'examples'"),
        ("patience = 2>xyz = 2", r"\[\[finetune\]\] 1, recipe: unknown key 'xyz'; known are examples, "),
        ("n_train = 60>n_train = '60'", r"\[\[pretrain\]\] 2: 'n_train' must be a whole number, not '60'"),
        ("n_train = [60, 120]>n_train = [60, 1.5]", "'n_train' must be a whole number, not 1.5"),
        ("seed = [0, 1]>seed = true", "'seed' must be a whole number, not True"),
        ("zoom = [1.0, 1.5]>zoom = 1.5", "'zoom' must be a list of 2 values, not 1.5"),
        ("recipe = { patience = 2 }>recipe = 2", "'recipe' must be a table with examples"),
        ('mode = "full">mode = "fully"', "mode 'fully' is unknown"),
        ("examples = 640>examples = 0", "'examples' must be above zero"),
        ('[[pretrain]]\nencoder = "convnext_w5">[[pretrain]]', r"\[\[pretrain\]\] 2: no encoder"),
        ('source = "sim:gz2:400"\n>', r"\[\[pretrain\]\] 1: no survey"),
        ("size = 32>size = '32'", "survey: 'size' must be a whole number"),
        ("size = 32>size = 0", r"plan.toml, \[\[pretrain\]\] 1, survey: size=0 is not an image size"),
        ("size = 32>split = 'half'", "1, survey: Unknown split 'half'; choose one of hash, source, published"),
        ("n_train = 50>n_train = 0", r"plan.toml, \[\[finetune\]\] 1: 'n_train' must be 1 or more"),
        ("n_train = 60>n_train = 60\nseed = -1", r"plan.toml, \[\[pretrain\]\] 2: Run: 'seed' must be 0 to"),
        ("patience = 2>patience = -2", r"plan.toml, \[\[finetune\]\] 1: Recipe: 'patience' must be 0 to"),
        ("seed = [0, 1]>seed = []", r"\[\[pretrain\]\] 1: one of its lists is empty"),
        ('"random", "galaxies">"random", "galaxy"', r"\[\[finetune\]\] 1: unknown weights 'galaxy'; .*\(galaxies\)"),
        ("n_train = 60>n_train = 60\nweights = 'galaxies'", r"\[\[pretrain\]\] 2: unknown weights 'galaxies'"),
        ('name = "galaxies">name = "random"', "the name 'random' stands for other weights"),
    ],
)
def test_what_is_wrong_is_told_in_one_sentence_with_its_place(change, sentence):
    old, new = change.split(">")
    assert old in PLAN
    with pytest.raises(UserError, match=sentence) as caught:
        jobs(PLAN.replace(old, new))
    assert "\n" not in str(caught.value)


NUMBERS = [f.name for f in fields(Recipe) if f.type in (int, float, "int", "float")]
NONSENSE = [
    *(
        (Recipe, name, value)
        for name in NUMBERS
        for value in (-1, math.nan, math.inf, -math.inf, 1e300, "1", None, True)
    ),
    *((Recipe, name, 2) for name in ("warmup", "drop_path", "dropout", "layer_decay")),
    *((Recipe, name, 1.0) for name in ("drop_path", "dropout")),
    *((Recipe, name, 0) for name in ("learning_rate", "clip", "layer_decay", "examples", "batch_size")),
    *((Recipe, name, 1.5) for name in ("examples", "batch_size", "accumulate", "evaluations", "patience", "watch")),
    *((Recipe, name, "none") for name in ("schedule", "optimizer", "precision")),
    *(
        (Augment, n, v)
        for n in ("shift", "colour", "background", "noise", "blur", "erase")
        for v in (-1, math.nan, 1e9, "1")
    ),
    *((Augment, "zoom", v) for v in ((0, 1), (2, 1), (1, math.inf), (math.nan, 1), 1.0, (1,), ("1", "2"), None)),
    *((Augment, name, value) for name in ("flip", "rotate") for value in (1, "yes", None)),
    *((Objective, name, value) for name in ("votes", "structure") for value in (-1, math.nan, math.inf, "1")),
    (Objective, "votes", 0),
]


@pytest.mark.parametrize(("cls", "name", "value"), NONSENSE)
def test_settings_are_bounded_and_finite(cls, name, value):
    with pytest.raises(UserError, match=rf"{name}|{value}") as told:
        cls(**{name: value})
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("name", ["n_train", "seed"])
@pytest.mark.parametrize("value", [-1, 1.5, math.nan, "1", None, 10**30])
def test_counts_and_seeds_of_runs_are_whole(name, value):
    for make in (partial(PretrainConfig, "resnet_w4"), partial(FinetuneConfig, "task", "resnet_w4")):
        with pytest.raises(UserError, match=f"'{name}' must be"):
            make(**{"n_train": 5, name: value})


def test_a_stored_configuration_of_another_shape_is_one_sentence():
    good = config_dict(PretrainConfig("resnet_w4", 5))
    assert config_from_dict("pretrain", good) == PretrainConfig("resnet_w4", 5)
    for change in (
        {"recipe": 1}, {"recipe": []}, {"recipe": {"augment": 1}}, {"recipe": {"augment": {"zoom": 1}}},
        {"recipe": {"augment": {"zoom": ["a", "b"]}}}, {"recipe": {"clip": "1"}}, {"recipe": {"new": 1}}, {"new": 1},
        {"n_train": "5"}, {"n_train": None}, {"encoder": 5}, {"encoder": None}, {"objective": None},
    ):  # fmt: skip
        with pytest.raises(UserError, match="of a stored run"):
            config_from_dict("pretrain", good | change)
    with pytest.raises(UserError, match="'encoder' is missing"):
        config_from_dict("pretrain", {"n_train": 5})
    spec = SurveySpec("sim:5")
    assert survey_from_dict(config_dict(spec) | {"fingerprint": "f", "parts": []}) == spec
    for change in ({"size": "64"}, {"new": 1}, {"source": None}, {"limit": "5"}):
        with pytest.raises(UserError, match="SurveySpec of a stored run"):
            survey_from_dict(config_dict(spec) | change)


def places(value, path=()):
    """Every place in nested tables and lists."""
    if path:
        yield path
    if isinstance(value, dict | list):
        for name, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from places(inner, (*path, name))


def assert_one_line(sentence):
    assert "\n" not in sentence


WRONG = (
    5,
    -1,
    1.5,
    math.nan,
    math.inf,
    True,
    "",
    "x",
    "../x",
    "a\0b",
    "~\0b",
    "~no-such-user/x",
    [],
    [[]],
    [[[1]]],
    {},
    {"x": 1},
    [1, "a", {}],
    10**30,
)
WRONG += (datetime.date(2020, 1, 1), "\ud800", "n" * 10_000)


@pytest.mark.parametrize("place", list(places(tomllib.loads(PLAN))), ids=lambda place: ".".join(map(str, place)))
def test_a_wrong_value_anywhere_in_a_plan_is_one_sentence(own_store, place):
    for wrong in WRONG:
        plan = tomllib.loads(PLAN)
        *outer, last = place
        inner = plan
        for name in outer:
            inner = inner[name]
        inner[last] = wrong
        try:
            made = jobs_of(plan, "plan.toml", preset=preset_jobs)
        except UserError as told:
            made = []
            assert_one_line(str(told))
        assert all(isinstance(config, PretrainConfig | FinetuneConfig) for config, _ in made)


@pytest.mark.parametrize("table", ["recipe", "survey"])
def test_what_no_table_of_a_plan_takes_up_is_refused(table):
    values = {"recipe": "examples = 64", "survey": 'source = "sim:60"'}[table]
    with pytest.raises(UserError, match=rf"plan.toml: \[{table}\] is for \[\[pretrain\]\]"):
        jobs(f'preset = "smoke"\n[{table}]\n{values}')


def test_tables_that_overlap_name_a_run_once():
    table = '[[pretrain]]\nencoder = "resnet_w4"\nn_train = [60, 120]\nseed = [0, 0, 1]\n'
    listed = jobs('[survey]\nsource = "sim:gz2:400"\n' + table + table.replace("[60, 120]", "60"))
    assert [(config.n_train, config.seed) for config, _ in listed] == [(60, 0), (60, 1), (120, 0), (120, 1)]


def test_a_plan_of_more_runs_than_anybody_makes_is_refused():
    text = PLAN.replace("seed = [0, 1]", f"seed = {list(range(60_000))}\nobjective = {{ votes = {[1.0] * 50} }}")
    with pytest.raises(UserError, match=r"\[\[pretrain\]\] 1: names 24,000,000 runs; at most 1,000,000"):
        jobs(text)


def test_the_rules_of_a_plan_are_a_file(tmp_path):
    file = tmp_path / "plan.toml"
    for rules in ("5", "[]", '"nowhere.json"', '"a\\u0000b"', '"."'):
        file.write_text(f"rules = {rules}\n{PLAN}")
        with pytest.raises(UserError, match=r"plan\.toml: .*rules"):
            plan_notes(file)


def test_files_that_are_no_plans(tmp_path):
    with pytest.raises(UserError, match="cannot be read"):
        read_plan(tmp_path / "none.toml")
    file = tmp_path / "plan.toml"
    file.write_text("preset = laptop")
    with pytest.raises(UserError, match="is not TOML: .*line 1"):
        read_plan(file, preset=preset_jobs)
    file.write_text("a = " + "[" * 100_000)
    with pytest.raises(UserError, match="is not TOML"):
        read_plan(file, preset=preset_jobs)
    file.write_text("")
    with pytest.raises(UserError, match="names no runs"):
        read_plan(file, preset=preset_jobs)
    file.write_text(PLAN, encoding="utf-8-sig")  # as some editors do
    assert read_plan(file) == jobs(PLAN)
    file.write_text('preset = "desktop"')
    with pytest.raises(UserError, match="Unknown preset 'desktop'"):
        read_plan(file, preset=preset_jobs)
    file.write_text('[survey]\nsource="sim:gz2:400"\n[pretrain]\nencoder="convnext_w4"')
    with pytest.raises(UserError, match="double brackets"):
        read_plan(file, preset=preset_jobs)


def test_a_rule_gives_each_run_the_recipe_of_its_encoder_and_galaxies():
    text = """
[survey]
source = "sim:160"
[recipe]
rule = "study"
watch = 16
[[pretrain]]
encoder = ["resnet_w4", "convnext_w4"]
n_train = [500, 64000]
recipe = { clip = [0.3, 1.0] }
"""
    made = jobs_of(tomllib.loads(text), "plan.toml")
    assert len(made) == 8
    for config, _ in made:
        expected = replace(study_recipe(config.encoder, config.n_train), watch=16, clip=config.recipe.clip)
        assert config.recipe == expected
    assert {config.recipe.clip for config, _ in made} == {0.3, 1.0}
    assert jobs_of(tomllib.loads(text.replace('rule = "study"', "")), "plan.toml") == made  # it is the usual one
    with pytest.raises(UserError, match="unknown rule 'guess' for recipes; there is 'study'"):
        jobs_of(tomllib.loads(text.replace('"study"', '"guess"')), "plan.toml")


def test_the_example_is_a_plan():
    listed = read_plan(Path(paths.ROOT) / "examples" / "plan.toml")
    assert len(listed) == 12 + 2 * 2 * (1 + 6)


def test_states_of_runs(own_store):
    listed = jobs(PLAN)[:4]
    folders = [paths.STORE / key_of(*job) for job in listed]
    for folder, name in zip(folders[:2], ("run.json", "failed.json"), strict=True):
        folder.mkdir(parents=True)
        (folder / name).write_text("{}")
    with held(folders[2] / LOCK, "It"):
        assert [state_of(job) for job in listed] == ["present", "failed", "running", "missing"]
    rows = plan_table(listed)
    assert rows[3]["state"] == rows[2]["state"] == "missing"
    assert rows[3]["key"] == folders[3].name
    assert not folders[3].exists()  # looking makes nothing


@pytest.mark.parametrize("width", ["0", "1", "99999999"])
def test_a_width_that_no_encoder_has_is_told_as_such(width):
    name = f"resnet_w{width}"
    config = PretrainConfig(name, 60)
    with pytest.raises(UserError, match="the width must lie between 2 and 512"):
        build_encoder(config.encoder)
    assert jobs(f'[survey]\nsource = "sim:60"\n[[pretrain]]\nn_train = 9\nencoder = "{name}"')


def test_a_setting_is_one_value():
    assert parse_settings(["seed=" + "9" * 5000, "weights=" + "[" * 5000])["seed"] == "9" * 5000
    with pytest.raises(UserError, match="--set recipe.clip: its value has several lines; write --set once for each"):
        parse_settings(["recipe.clip=1\nrecipe.dropout=0.5"])


def test_settings_of_the_command_line():
    config = PretrainConfig("convnext_w4", 60)
    given = ["recipe.learning_rate=1e-3", "recipe.augment.flip=false", "encoder=resnet_w6", "recipe.clip=1"]
    changed = fill(config, parse_settings(given), "--set")
    assert (changed.recipe.learning_rate, changed.recipe.augment.flip, changed.encoder) == (1e-3, False, "resnet_w6")
    assert changed.recipe.clip == 1.0 and isinstance(changed.recipe.clip, float)  # 1 and 1.0 would differ in the key
    assert changed.recipe.batch_size == config.recipe.batch_size
    for wrong, sentence in (
        ("recipe.lerning_rate=1", "did you mean 'learning_rate'"),
        ("recipe", "write NAME=VALUE"),
        ("recipe.clip=high", "must be a number, not 'high'"),
    ):
        with pytest.raises(UserError, match=sentence):
            fill(config, parse_settings([wrong]), "--set")
    with pytest.raises(UserError, match="'clip' is set to a value already"):
        parse_settings(["clip=1", "clip.x=2"])


def test_a_grid_of_pairs():
    augment = Recipe().augment
    assert grid({"zoom": [1.0, 1.5], "flip": [True, False]}, augment) == [
        {"zoom": [1.0, 1.5], "flip": True},
        {"zoom": [1.0, 1.5], "flip": False},
    ]
    assert len(grid({"zoom": [[1.0, 1.5], [1.0, 2.0]]}, augment)) == 2


def test_runs_keep_the_hash_of_the_rules_that_their_plan_names(tmp_path, store):
    (tmp_path / "rules.toml").write_text("size = 'encoders are the units'\n")
    plan = tmp_path / "plan.toml"
    plan.write_text(
        'rules = "rules.toml"\n[survey]\nsource = "sim:200"\nsize = 16\n[[pretrain]]\nencoder = "resnet_w4"\n'
        "n_train = 40\nrecipe = { examples = 80, batch_size = 20 }\n"
    )
    noted = plan_notes(plan)
    (record,) = sweep(read_plan(plan), workers=1, conduct=Conduct(report=lambda line: None, noted=noted))
    assert len(noted["rules"]) == 16 and record["provenance"]["rules"] == noted["rules"]
    (tmp_path / "rules.toml").write_text("size = 'seeds are the units'\n")
    assert plan_notes(plan) != noted


def test_a_plan_whose_rules_are_missing_is_refused(tmp_path):
    plan = tmp_path / "plan.toml"
    plan.write_text('rules = "rules.toml"\n')
    with pytest.raises(UserError, match=r"plan.toml: its rules 'rules.toml' cannot be read"):
        plan_notes(plan)


def test_the_study_s_plan_reads_and_its_beginnings_are_studies():
    path = paths.ROOT / "data" / "plans" / "study.toml"
    jobs = read_plan(path)
    assert plan_notes(path)["rules"] and len({repr(job) for job in jobs}) == len(jobs)
    first = jobs[:12]
    assert len({config.encoder for config, _ in first}) == 3 and len({config.n_train for config, _ in first}) == 4
    assert all(survey.split == "published" and survey.size == 48 for _, survey in jobs)
    assert max(config.n_train for config, _ in jobs) == 64_000
