import json
import os
import signal
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from gzlib.config import Augment, Conduct, Recipe
from gzlib.data.loader import Loader
from gzlib.errors import UserError
from gzlib.models.encoders import build_encoder
from gzlib.models.heads import ClassHead, GalaxyModel
from gzlib.training import loop
from gzlib.training.checkpoint import Stopped
from gzlib.training.loop import learning_rate, parameter_groups

pytestmark = pytest.mark.slow

CPU = torch.device("cpu")
SHORT = Recipe(examples=320, batch_size=16, learning_rate=3e-3, evaluations=4, drop_path=0.2, dropout=0.2)
UNTIL_BEST = replace(SHORT, examples=800, schedule="constant", average=3.0, spacing=0.2, patience=2, warmup_examples=64)

FREE = replace(UNTIL_BEST, average=0.0, optimizer="schedule-free")


def bright_or_dark(n=60):
    """Two classes that differ in brightness, with noise."""
    rng = np.random.default_rng(0)
    labels = np.arange(n) % 2
    images = rng.integers(0, 20, (n, 32, 32, 3)) + 20 * labels[:, None, None, None]  # as dark as cutouts are
    return images.astype(np.uint8), labels


def new_model(drop_path=SHORT.drop_path, dropout=SHORT.dropout):
    torch.manual_seed(5)
    encoder = build_encoder("convnext_w4", drop_path=drop_path)
    return GalaxyModel(encoder, ClassHead(encoder.num_features, 2, dropout=dropout))


def loaders(batch_size=16):
    images, labels = bright_or_dark()
    train = Loader(images, labels, np.arange(40), batch_size=batch_size, seed=1, augment=Augment())
    return train, Loader(images, labels, np.arange(40, 60), batch_size=batch_size)


def train(model, recipe=SHORT, **kwargs):
    return loop.fit(model, nn.functional.cross_entropy, *loaders(), recipe=recipe, seed=3, device=CPU, **kwargs)


def test_learns_and_keeps_the_best_weights():
    model = new_model()
    history = train(model)
    assert history.examples == [80, 160, 240, 320]
    assert min(history.val_loss) < 0.5 * np.log(2)
    again = loop.evaluate(model, nn.functional.cross_entropy, loaders()[1], device=CPU)
    assert again == pytest.approx(min(history.val_loss))


@pytest.mark.usefixtures("one_thread")
def test_is_repeatable_bit_for_bit():
    first, second = new_model(), new_model()
    train(first)
    torch.rand(17)  # what else drew random numbers must not matter
    train(second)
    states = zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in states)


@pytest.mark.parametrize("recipe", [SHORT, UNTIL_BEST, FREE], ids=["cosine", "averaged", "schedule-free"])
@pytest.mark.usefixtures("one_thread")
def test_resumes_bit_for_bit(tmp_path, monkeypatch, recipe):
    undisturbed = new_model()
    expected = train(undisturbed, recipe)

    file, calls = tmp_path / "checkpoint.pt", []

    class Cut(Exception):
        pass

    def cut_off(*args, **kwargs):
        save(*args, **kwargs)
        calls.append(kwargs["step"])
        if len(calls) == 7:
            raise Cut

    save = loop.save_checkpoint
    monkeypatch.setattr(loop, "save_checkpoint", cut_off)
    with pytest.raises(Cut):
        train(new_model(), recipe, checkpoint=file, conduct=Conduct(checkpoint_seconds=0))
    monkeypatch.setattr(loop, "save_checkpoint", save)
    resumed = new_model()
    nn.init.zeros_(resumed.head.linear.weight)  # whatever was in the model is replaced
    history = train(resumed, recipe, checkpoint=file, conduct=Conduct(checkpoint_seconds=1e9))
    assert history.val_loss == expected.val_loss
    assert history.as_metrics()["end"] == expected.as_metrics()["end"]
    assert history.train_loss == pytest.approx(expected.train_loss, rel=1e-6)
    for a, b in zip(undisturbed.state_dict().values(), resumed.state_dict().values(), strict=True):
        assert torch.equal(a, b)


def test_patience_stops_early(monkeypatch):
    losses = iter([3.0, 2.0, 2.5, 2.4, 2.3, 1.0])
    monkeypatch.setattr(loop, "evaluate", lambda *args, **kwargs: next(losses))
    history = train(new_model(), Recipe(examples=16 * 60, batch_size=16, evaluations=6, patience=3))
    assert history.val_loss == [3.0, 2.0, 2.5, 2.4, 2.3]
    assert history.best == 1


@pytest.mark.parametrize("recipe", [UNTIL_BEST, FREE], ids=["averaged", "schedule-free"])
def test_patience_counts_on_after_a_resumption(tmp_path, monkeypatch, recipe):
    """The run stops where it would have stopped, and keeps the weights that it would have kept."""
    recipe, file = replace(recipe, examples=8_000, patience=3), tmp_path / "checkpoint.pt"
    bowl = [3.0, 2.0, 2.5, 2.4, 2.3, 1.0]
    losses = iter(bowl)
    monkeypatch.setattr(loop, "evaluate", lambda *args, **kwargs: next(losses))
    undisturbed, resumed = new_model(), new_model()
    expected = train(undisturbed, recipe)
    assert expected.val_loss == bowl[:5]
    end = expected.as_metrics()["end"]
    assert (end["why"], end["best"]) == ("patience", expected.examples[1]) and end["examples"] < 8_000

    losses = iter(bowl)

    def evaluate_until_the_fourth(*args, **kwargs):
        if (loss := next(losses)) == 2.4:
            os.kill(os.getpid(), signal.SIGTERM)
        return loss

    monkeypatch.setattr(loop, "evaluate", evaluate_until_the_fourth)
    with pytest.raises(Stopped):
        train(new_model(), recipe, checkpoint=file)
    history = train(resumed, recipe, checkpoint=file)
    assert (history.val_loss, history.as_metrics()) == (expected.val_loss, expected.as_metrics())
    assert all(torch.equal(a, b) for a, b in zip(undisturbed.parameters(), resumed.parameters(), strict=True))


def test_the_average_looks_back_over_a_fixed_share_of_the_run():
    """Its weights are those of a polynomial; the last step's is ``average / (average + steps)``."""
    seen, recipe = [], replace(UNTIL_BEST, examples=320, patience=0, spacing=10.0)
    kept = new_model()

    def loss_of(prediction, labels):
        if prediction.requires_grad:
            seen.append(moving.head.linear.weight.detach().clone())
        return nn.functional.cross_entropy(prediction, labels)

    moving = kept
    history = loop.fit(moving, loss_of, *loaders(), recipe=recipe, seed=3, device=CPU)
    assert history.examples == [48, 320]  # after the first epoch, and at the ceiling
    expected = seen[1]  # what the first step made
    for step, weights in enumerate(seen[2 : 3 if history.best == 0 else None], start=1):
        expected = torch.lerp(expected, weights, 3 / (3 + step))
    assert history.as_metrics()["end"]["why"] == "ceiling"


def test_epochs_count_the_galaxies_at_hand():
    history = train(new_model(), replace(SHORT, examples=10**9, epochs=4.0, evaluations=1))
    assert history.examples == [160]  # of 40 galaxies
    assert [Recipe(epochs=0.5).most_examples(n) for n in (10, 100)] == [5, 50]


def test_what_schedule_free_training_keeps_is_the_optimizers_own_average(monkeypatch):
    """Its batch norms are those of the average, and the weights that train are left alone."""
    made = []

    class Spied(loop.ScheduleFree):
        def make(self):
            before = {k: v.clone() for k, v in self.model.state_dict().items()}
            super().make()
            assert all(torch.equal(v, before[k]) for k, v in self.model.state_dict().items())
            self.optimiser.eval()
            pairs = zip(self.module.parameters(), self.model.parameters(), strict=True)
            made.append(max((a - b).abs().max().item() for a, b in pairs))
            self.optimiser.train()

    monkeypatch.setattr(loop, "ScheduleFree", Spied)
    torch.manual_seed(5)
    encoder = build_encoder("resnet_w4", drop_path=0.2)
    model = GalaxyModel(encoder, ClassHead(encoder.num_features, 2))
    history = train(model, replace(FREE, patience=0, examples=320))
    assert len(made) == len(history.val_loss) and max(made) < 1e-6
    again = loop.evaluate(model, nn.functional.cross_entropy, loaders()[1], device=CPU)
    assert again == pytest.approx(min(history.val_loss))


def test_a_longer_run_is_validated_at_the_same_places():
    recipe = Recipe(spacing=0.25)
    short, long = (loop.validation_steps(recipe, last, 10, 100) for last in (60, 120))
    assert short == {10, 13, 16, 20, 25, 31, 39, 48, 60}
    assert short - {60} <= long and max(long) == 120
    assert loop.validation_steps(Recipe(evaluations=3), 10, 10, 100) == {4, 8, 10}


@pytest.mark.parametrize("has", [True, False])
def test_bfloat16_is_asked_for_by_the_recipe_where_the_processor_has_it(has, monkeypatch):
    """Without instructions for it, a step of a small ResNet would take up to twelve times as long."""
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: has)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    model, seen = new_model(), []
    model.encoder.register_forward_hook(lambda module, images, features: seen.append(features.dtype))
    train(model, replace(SHORT, precision="bfloat16"))
    train(model, replace(SHORT, precision="float32"))
    assert seen[0] == (torch.bfloat16 if has else torch.float32) and seen[-1] == torch.float32


@pytest.mark.parametrize(("bad_step", "rate"), [(5, "0.0028"), (19, "2.28e-05")])
def test_non_finite_loss_names_step_rate_and_galaxies(tmp_path, bad_step, rate):
    """In mid-run or just before a validation: its own batch is named, and no checkpoint holds the ruined weights."""
    calls = []

    def bad_once(prediction, labels):
        calls.append(1)
        return nn.functional.cross_entropy(prediction, labels) * (float("nan") if len(calls) == bad_step + 1 else 1.0)

    ids = np.array([f"J{row}" for row in range(60)])
    train_on, val = loaders()
    model, recipe = new_model(), replace(SHORT, evaluations=1)
    with pytest.raises(loop.NonFiniteLoss, match=rf"loss is nan.* {bad_step} \(.* {rate}\).*: J\d+, J") as error:
        loop.fit(
            model,
            bad_once,
            train_on,
            val,
            recipe=recipe,
            seed=0,
            device=CPU,
            ids=ids,
            checkpoint=tmp_path / "checkpoint.pt",
            conduct=Conduct(checkpoint_seconds=0),
        )
    details = error.value.details
    assert details["ids"] == ids[train_on.index[train_on.rows(bad_step)]].tolist()
    assert (details["step"], details["learning_rate"]) == (bad_step, pytest.approx(float(rate), rel=0.01))
    json.dumps(details, allow_nan=False)
    stored = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    assert all(v.isfinite().all() for v in stored["model"].values())


def test_a_gradient_that_is_not_finite_stops_the_run_too():
    def endless(prediction, labels):
        return (prediction - prediction).sqrt().sum()  # 0, with an infinite slope

    with pytest.raises(loop.NonFiniteLoss, match=r"loss is 0\.0, its gradient's norm nan, at step 0"):
        loop.fit(new_model(), endless, *loaders(), recipe=SHORT, seed=0, device=CPU)


def test_validation_loss_that_is_not_finite(monkeypatch):
    monkeypatch.setattr(loop, "evaluate", lambda *args, **kwargs: float("nan"))
    with pytest.raises(loop.NonFiniteLoss, match="validation loss is nan after 5 steps"):
        train(new_model())


def test_accumulated_batches_follow_one_big_batch():
    calm = replace(SHORT, drop_path=0.0, dropout=0.0)
    images, labels = bright_or_dark()
    curves, models = [], []
    for recipe in (replace(calm, batch_size=30), replace(calm, batch_size=10, accumulate=3)):
        kwargs = {"recipe": recipe, "seed": 3, "device": CPU}
        model = new_model(drop_path=0.0, dropout=0.0)
        shown = loop.train_loader(images, labels, np.arange(40), **kwargs)
        val = Loader(images, labels, np.arange(40, 60), batch_size=16)
        history = loop.fit(model, nn.functional.cross_entropy, shown, val, **kwargs)
        curves.append(history.train_loss + history.val_loss)
        models.append(model)
    assert curves[0] != curves[1]  # another order of summation
    assert curves[0] == pytest.approx(curves[1], abs=1e-5)
    assert history.examples[-1] == 330  # 11 steps of 30


def test_compiled_training_goes_through_the_compiled_model(monkeypatch):
    seen = []

    def compiled(network, options):
        assert options == {"fallback_random": True}  # else dropout would make it another run
        return lambda images: seen.append(len(images)) or network(images)

    monkeypatch.setattr(torch, "compile", compiled)
    model, plain = new_model(), new_model()
    train(model, conduct=Conduct(compile=True))
    assert seen == [16] * 20
    train(plain)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), plain.parameters(), strict=True))


def test_accumulation_of_fewer_galaxies_than_batches():
    images, labels = bright_or_dark()
    kwargs = {"recipe": replace(SHORT, batch_size=2, accumulate=8, examples=32), "seed": 3, "device": CPU}
    shown = loop.train_loader(images, labels, np.arange(5), **kwargs)
    history = loop.fit(new_model(), nn.functional.cross_entropy, shown, loaders()[1], **kwargs)
    assert np.isfinite(history.train_loss).all()


def test_schedule_warms_up_and_decays():
    recipe = Recipe(warmup=0.1, learning_rate=2.0)
    factors = [learning_rate(recipe, step, 100) / 2 for step in range(100)]
    assert factors[0] == pytest.approx(0.1)
    assert factors[10] == 1.0
    assert factors[-1] < 0.001
    assert learning_rate(Recipe(schedule="constant", learning_rate=2.0), 99, 100) == 2.0
    short = Recipe(warmup_examples=20 * 64, learning_rate=2.0, schedule="constant")
    assert [learning_rate(short, step, last) for step in (9, 19, 20) for last in (100, 900)] == [1, 1, 2, 2, 2, 2]


def test_layer_decay_slows_the_stem_most():
    groups = parameter_groups(new_model(), Recipe(layer_decay=0.25))
    scales = {round(g.get("lr_scale", 1.0), 6) for g in groups}
    assert 1.0 in scales
    assert min(scales) < 0.02
    plain = parameter_groups(new_model(), Recipe())
    count = lambda groups: sum(p.numel() for g in groups for p in g["params"])  # noqa: E731
    assert count(groups) == count(plain)


def test_bad_recipe():
    with pytest.raises(UserError, match="'examples' must be above zero"):
        Recipe(examples=0)
    with pytest.raises(UserError, match="'accumulate' must be above zero, not 0"):
        Recipe(accumulate=0)
    with pytest.raises(UserError, match="schedule 'step'"):
        Recipe(schedule="step")
    with pytest.raises(UserError, match="'average' must be 0 to 1e\\+06, not nan"):
        Recipe(average=float("nan"))
    with pytest.raises(UserError, match="optimizer 'schedule-free' needs schedule='constant'"):
        Recipe(optimizer="schedule-free")
    with pytest.raises(UserError, match="precision 'half'; use one of auto, float32, bfloat16"):
        Recipe(precision="half")
