import pytest

from gzlib.errors import UserError
from gzlib.models.encoders import build_encoder
from gzlib.study.presets import FINETUNING_STUDIES, PRETRAINING, finetuning_study, pretraining_study
from gzlib.training.runs import key_of


@pytest.mark.parametrize("preset", PRETRAINING)
def test_every_preset_is_a_full_grid_of_distinct_runs(preset):
    study = pretraining_study(preset)
    jobs = study.jobs()
    assert len(jobs) == len(study.encoders) * len(study.n_train) * len(study.seeds)
    assert len({key_of(*job) for job in jobs}) == len(jobs)
    assert [config.n_train for config, _ in jobs] == sorted(config.n_train for config, _ in jobs)
    for name in study.encoders:
        build_encoder(name)


def test_larger_training_sets_are_shown_more_often():
    examples = [config.recipe.examples for config, _ in pretraining_study("laptop", seeds=[0]).jobs()]
    assert examples == sorted(examples)
    assert max(examples) <= PRETRAINING["laptop"].examples[2]


@pytest.mark.parametrize("preset", FINETUNING_STUDIES)
def test_downstream_arms_start_from_four_kinds_of_weights(preset):
    study = finetuning_study(preset)
    assert list(study.arms()) == ["random", "galaxies", "ImageNet", "ImageNet + galaxies"]
    assert len(set(study.arms().values())) == 4
    jobs = study.jobs()
    assert len({key_of(*job) for job in jobs}) == len(jobs)


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
