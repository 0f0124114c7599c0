import numpy as np
import pytest
import torch
from torch import nn

from gzlib.data.augment import Augment
from gzlib.data.loader import Loader
from gzlib.errors import UserError
from gzlib.models import ClassHead, GalaxyModel, build_encoder
from gzlib.training import loop
from gzlib.training.config import Recipe

CPU = torch.device("cpu")
SHORT = Recipe(examples=320, batch_size=16, learning_rate=3e-3, evaluations=4, drop_path=0.2, dropout=0.2)


def bright_or_dark(n=60):
    """Two classes that differ in brightness, with noise."""
    rng = np.random.default_rng(0)
    labels = np.arange(n) % 2
    images = rng.integers(0, 20, (n, 32, 32, 3)) + 20 * labels[:, None, None, None]  # as dark as cutouts are
    return images.astype(np.uint8), labels


def new_model():
    torch.manual_seed(5)
    encoder = build_encoder("convnext_w4", drop_path=SHORT.drop_path)
    return GalaxyModel(encoder, ClassHead(encoder.num_features, 2, dropout=SHORT.dropout))


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


def test_is_repeatable_bit_for_bit():
    first, second = new_model(), new_model()
    train(first)
    torch.rand(17)  # what else drew random numbers must not matter
    train(second)
    states = zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in states)


def test_resumes_bit_for_bit(tmp_path, monkeypatch):
    undisturbed = new_model()
    expected = train(undisturbed)

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
        train(new_model(), checkpoint=file, checkpoint_seconds=-1)
    monkeypatch.setattr(loop, "save_checkpoint", save)
    resumed = new_model()
    nn.init.zeros_(resumed.head.linear.weight)  # whatever was in the model is replaced
    history = train(resumed, checkpoint=file, checkpoint_seconds=1e9)
    assert history.val_loss == expected.val_loss
    assert history.train_loss == pytest.approx(expected.train_loss, rel=1e-6)
    for a, b in zip(undisturbed.state_dict().values(), resumed.state_dict().values(), strict=True):
        assert torch.equal(a, b)


def test_patience_stops_early(monkeypatch):
    losses = iter([3.0, 2.0, 2.5, 2.4, 2.3, 1.0])
    monkeypatch.setattr(loop, "evaluate", lambda *args, **kwargs: next(losses))
    history = train(new_model(), Recipe(examples=16 * 60, batch_size=16, evaluations=6, patience=3))
    assert history.val_loss == [3.0, 2.0, 2.5, 2.4, 2.3]
    assert history.best == 1


def test_non_finite_loss_names_step_rate_and_galaxies():
    bad = lambda prediction, labels: prediction.sum() * float("nan")  # noqa: E731
    with pytest.raises(loop.NonFiniteLoss, match=r"nan at step 0 \(learning rate 0.0015\).*rows of the survey.*\["):
        loop.fit(new_model(), bad, *loaders(), recipe=SHORT, seed=0, device=CPU)


def test_schedule_warms_up_and_decays():
    recipe = Recipe(warmup=0.1)
    factors = [loop._schedule(recipe, step, 100) for step in range(100)]
    assert factors[0] == pytest.approx(0.1)
    assert factors[10] == 1.0
    assert factors[-1] < 0.001
    assert loop._schedule(Recipe(schedule="constant"), 99, 100) == 1.0


def test_layer_decay_slows_the_stem_most():
    groups = loop._parameter_groups(new_model(), Recipe(layer_decay=0.25))
    scales = {round(g.get("lr_scale", 1.0), 6) for g in groups}
    assert 1.0 in scales
    assert min(scales) < 0.02
    plain = loop._parameter_groups(new_model(), Recipe())
    count = lambda groups: sum(p.numel() for g in groups for p in g["params"])  # noqa: E731
    assert count(groups) == count(plain)


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", None])
def test_foreign_or_truncated_checkpoint(tmp_path, content):
    file = tmp_path / "checkpoint.pt"
    if content is None:
        torch.save({"something": 1}, file)
    else:
        file.write_bytes(content)
    with pytest.raises(UserError, match="delete it"):
        train(new_model(), checkpoint=file)
    torch.save({"model": {}}, file)
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match="delete it"):
        train(new_model(), checkpoint=file)


def test_bad_recipe():
    with pytest.raises(UserError, match="'examples' must be above zero"):
        Recipe(examples=0)
    with pytest.raises(UserError, match="schedule 'step'"):
        Recipe(schedule="step")
