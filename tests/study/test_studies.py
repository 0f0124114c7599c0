from dataclasses import replace

import pytest
import timm

from gzlib.config import FinetuneConfig, SurveySpec
from gzlib.errors import UserError
from gzlib.models.encoders import build_encoder
from gzlib.study import presets
from gzlib.study.presets import PRETRAINING, finetuning_study, planned_splits, preset_jobs, pretraining_study
from gzlib.training.runs import key_of

SIMULATED = ("smoke", "laptop")


@pytest.mark.parametrize("preset", PRETRAINING)
def test_every_preset_is_a_full_grid_of_distinct_runs(preset):
    study = pretraining_study(preset, planned=True)
    jobs = study.jobs()
    assert len(jobs) == len(study.encoders) * len(study.n_train) * len(study.seeds) == len(set(jobs))
    if preset in SIMULATED:
        assert len({key_of(*job) for job in jobs}) == len(jobs)
    assert [config.n_train for config, _ in jobs] == sorted(config.n_train for config, _ in jobs)
    for name in study.encoders:
        if preset in SIMULATED:
            build_encoder(name)
        else:
            assert timm.is_model(name)


def test_larger_training_sets_are_shown_more_often():
    examples = [config.recipe.examples for config, _ in pretraining_study("laptop", seeds=[0]).jobs()]
    assert examples == sorted(examples)
    assert max(examples) <= PRETRAINING["laptop"].examples[2]


@pytest.mark.parametrize("preset", SIMULATED)
def test_downstream_arms_start_from_four_kinds_of_weights(preset):
    study = finetuning_study(preset)
    assert list(study.arms()) == ["random", "galaxies", "ImageNet", "ImageNet + galaxies"]
    assert len(set(study.arms().values())) == 4
    jobs = study.jobs()
    assert len({key_of(*job) for job in jobs}) == len(jobs)


def test_the_paper_is_studied_as_its_authors_trained(own_store):
    """What `facts` of the paper's code and models say; nothing is downloaded for it."""
    study = pretraining_study("paper", planned=True)
    assert study.survey == SurveySpec("hub:mwalmsley/gz_evo", size=224, split="source")
    families = {name.removeprefix("tf_").split("_")[0] for name in study.encoders}
    assert families == {"convnext", "efficientnet", "efficientnetv2", "maxvit", "resnet18", "resnet50", "resnet101"}
    assert len(study.seeds) == 3
    train = planned_splits("hub:mwalmsley/gz_evo")["train"]
    assert study.n_train == tuple(train // part for part in (64, 32, 16, 8, 4, 2, 1))
    by_encoder = {config.encoder: config for config, _ in study.jobs() if config.n_train == train}
    nano = by_encoder["convnext_nano"]
    assert nano.weights == "convnext_nano.in12k"
    recipe = nano.recipe
    assert (recipe.learning_rate, recipe.weight_decay, recipe.drop_path, recipe.dropout) == (1e-4, 0.05, 0.4, 0.5)
    assert (recipe.clip, recipe.patience, recipe.schedule, recipe.optimizer) == (0.3, 8, "constant", "adamw")
    assert {c.recipe.batch_size * c.recipe.accumulate for c in by_encoder.values()} == {2048}
    assert all(c.recipe.evaluations == c.recipe.epochs for c in by_encoder.values())  # once an epoch
    assert by_encoder["maxvit_large_tf_224"].recipe.learning_rate == 2e-5
    assert by_encoder["resnet50"].recipe.drop_path == 0
    assert all(c.weights in timm.list_pretrained(f"{c.encoder}.*") for c in by_encoder.values())


def test_the_papers_plan_has_its_tasks_in_two_modes(own_store):
    jobs = preset_jobs("paper", planned=True)
    assert len(set(jobs)) == len(jobs)
    finetuned = [(config, survey) for config, survey in jobs if isinstance(config, FinetuneConfig)]
    assert {config.task for config, _ in finetuned} == {"is-lsb", "which-lsb", "jwst", "rings", "galaxy10"}
    assert {config.mode for config, _ in finetuned} == {"linear", "full"}
    assert {survey.split for _, survey in jobs} == {"source"} and {survey.size for _, survey in jobs} == {224}
    nano = {c.weights for c, _ in finetuned if c.encoder == "convnext_nano"}
    assert nano == {"random", "galaxies", "convnext_nano.in12k", "ImageNet + galaxies"}
    others = {c.weights for c, _ in finetuned if c.encoder == "resnet50"}
    assert others == {"resnet50.a1_in1k", "ImageNet + galaxies"}
    full = next(c for c, _ in finetuned if c.mode == "full").recipe
    assert (full.learning_rate, full.layer_decay, full.weight_decay, full.dropout, full.batch_size) == (
        1e-5, 0.25, 0.1, 0.5, 32,
    )  # fmt: skip
    sizes = {c.n_train for c, _ in finetuned if c.task == "galaxy10" and c.mode == "full"}
    assert sizes == {round(15_962 * 0.8) // part for part in (64, 32, 16, 8, 4, 2, 1)}


def test_fractions_are_of_the_galaxies_that_curation_left(own_store, monkeypatch):
    monkeypatch.setattr(presets, "training_galaxies", lambda survey, label=None: 6_400)
    assert pretraining_study("paper").n_train == (100, 200, 400, 800, 1_600, 3_200, 6_400)
    assert finetuning_study("paper", encoder="convnext_pico").n_pretrain == 6_400


def test_a_plan_asks_for_galaxies_that_no_one_has_counted():
    study = replace(finetuning_study("paper", planned=True), tasks={"galaxy10": ("sim:galaxy10:500", "label")})
    with pytest.raises(UserError, match=r"^How many galaxies 'sim:galaxy10:500' has to train on is known once"):
        study.jobs()


def test_another_size_changes_the_galaxy_trained_arms():
    assert finetuning_study("smoke").arms()["galaxies"] != finetuning_study("smoke", size=48).arms()["galaxies"]


def test_a_small_survey_gets_sizes_that_it_can_give(own_store):
    study = pretraining_study("laptop", source="sim:gz2:700", size=32)
    assert len(study.n_train) >= 4
    assert study.n_train[-1] < 700
    assert list(study.n_train) == sorted(set(study.n_train))


def test_real_tasks_keep_their_published_test_set(own_store, real_data):
    tasks = {"five": [str(real_data / "real" / "gz2_five_classes"), "label"]}
    study = finetuning_study("smoke", tasks=tasks, n_linear=[50, 10_000], n_full=[])
    assert study.task_surveys()["five"].split == "source"
    sizes = {config.n_train for config, _ in study.jobs()}
    assert 50 in sizes
    assert max(sizes) < 2_000  # all labels there are, not 10,000


def test_unknown_preset():
    for study in (pretraining_study, finetuning_study):
        with pytest.raises(UserError, match=r"preset 'huge'; choose one of smoke, laptop, paper"):
            study("huge")
