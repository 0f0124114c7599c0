"""Training extras that a recipe may ask for: class weights, label smoothing, mixup, gradient checkpointing."""

from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest
import torch
from test_loop import CPU, SHORT, loaders, new_model, train
from torch import nn

from gzlib.config import FinetuneConfig, PretrainConfig, Recipe, config_dict
from gzlib.errors import UserError
from gzlib.models import ClassHead, GalaxyModel, build_encoder
from gzlib.training import loop
from gzlib.training.finetuning import class_loss

pytestmark = pytest.mark.slow

LABELS = np.array([0, 0, 0, 0, 0, 0, 1, 1])  # of three classes, the last of which has no galaxy
LOGITS = torch.tensor([[2.0, -1.0, 0.5], [0.3, 0.1, -0.7], [-1.0, 1.5, 0.0], [0.0, 0.0, 0.0]])
CLASSES = torch.tensor([0, 1, 1, 0])


def test_none_of_them_changes_the_key_of_a_run_without_them():
    assert not {"class_weights", "label_smoothing", "mixup", "gradient_checkpointing"} & config_dict(SHORT).keys()
    assert config_dict(replace(SHORT, mixup=0.2))["mixup"] == 0.2


def test_class_weights_are_the_inverse_of_frequencies_and_one_on_average():
    each = nn.functional.cross_entropy(LOGITS, CLASSES, reduction="none")
    weights = torch.tensor([8 / 6 / 2, 8 / 2 / 2, 2 / 2, 8 / 6 / 2])[[0, 1, 1, 0]]
    loss = class_loss(LABELS, 3, Recipe(class_weights=True), device=CPU)
    assert loss(LOGITS, CLASSES).item() == pytest.approx((weights * each).mean().item())
    of_each = [8 / 6 / 2, 8 / 2 / 2]
    assert np.mean([of_each[label] for label in LABELS]) == pytest.approx(1)


def test_label_smoothing_and_no_extra_are_torchs_own():
    assert class_loss(LABELS, 3, Recipe(), device=CPU) is nn.functional.cross_entropy
    smoothed = class_loss(LABELS, 3, Recipe(label_smoothing=0.1), device=CPU)(LOGITS, CLASSES)
    assert smoothed.item() == pytest.approx(nn.functional.cross_entropy(LOGITS, CLASSES, label_smoothing=0.1).item())


@pytest.mark.parametrize("votes", [False, True])
def test_mixup_blends_images_and_losses_alike(votes):
    rng = np.random.default_rng(1)
    images = torch.from_numpy(rng.random((4, 3, 8, 8), dtype=np.float32))
    labels = torch.from_numpy(rng.random((4, 5), dtype=np.float32)) if votes else CLASSES
    of = (lambda p, y: (p.sum(1) * y.sum(1)).mean()) if votes else nn.functional.cross_entropy
    mixed, both, blended = loop._mixed(images, labels, of, 0.5, seed=3, step=7)
    other = next(  # which galaxy each was blended with
        order
        for order in map(list, permutations(range(4)))
        if torch.equal(labels[order], both[:, 1])
        and torch.linalg.matrix_rank(torch.stack([(mixed - images).flatten(), (images[order] - images).flatten()])) < 2
    )
    change = images[other] - images
    share = 1 - (((mixed - images) * change).sum() / (change * change).sum()).item()
    assert 0 <= share <= 1
    expected = share * of(LOGITS, labels) + (1 - share) * of(LOGITS, labels[other])
    assert blended(LOGITS, both).item() == pytest.approx(expected.item(), rel=1e-4)
    again = loop._mixed(images, labels, of, 0.5, seed=3, step=7)[0]
    assert torch.equal(mixed, again) and not torch.equal(mixed, loop._mixed(images, labels, of, 0.5, seed=3, step=8)[0])


@pytest.mark.parametrize("extra", [{"mixup": 0.4}, {"mixup": 0.4, "accumulate": 2}], ids=["mixup", "accumulated"])
def test_mixup_learns_and_is_repeatable(extra):
    first, second = new_model(), new_model()
    history = train(first, replace(SHORT, batch_size=SHORT.batch_size // extra.get("accumulate", 1), **extra))
    train(second, replace(SHORT, batch_size=SHORT.batch_size // extra.get("accumulate", 1), **extra))
    assert min(history.val_loss) < 0.6 * np.log(2)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))


def test_gradient_checkpointing_changes_nothing_but_memory():
    plain, checkpointed = new_model(), new_model()
    train(plain)
    train(checkpointed, replace(SHORT, gradient_checkpointing=True))
    assert checkpointed.encoder.network.stages[0].grad_checkpointing
    for a, b in zip(plain.parameters(), checkpointed.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


def test_an_encoder_without_gradient_checkpointing_is_refused():
    encoder = build_encoder("selecsls42", size=32)
    model = GalaxyModel(encoder, ClassHead(encoder.num_features, 2))
    with pytest.raises(UserError, match="'selecsls42' has no gradient checkpointing"):
        train(model, replace(SHORT, gradient_checkpointing=True))


def test_batch_norm_and_one_galaxy():
    encoder = build_encoder("resnet_w4", size=32)
    model = GalaxyModel(encoder, ClassHead(encoder.num_features, 2))
    one = loaders(batch_size=1)
    with pytest.raises(UserError, match="Batch norm cannot learn from 1 galaxy a batch.*batch size of 2"):
        loop.fit(model, nn.functional.cross_entropy, *one, recipe=replace(SHORT, batch_size=1), seed=3, device=CPU)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Recipe(label_smoothing=1.0), "'label_smoothing' must be below 1"),
        (lambda: Recipe(mixup=-1.0), "'mixup' must be"),
        (lambda: Recipe(class_weights=1), "'class_weights' must be true or false, not 1"),
        (lambda: PretrainConfig("resnet_w4", 10, recipe=Recipe(class_weights=True)), "for finetuning on classes"),
        (lambda: FinetuneConfig("t", "resnet_w4", 10, recipe=Recipe(mixup=0.2)), "'mixup' is for mode 'full'"),
    ],
)
def test_extras_where_they_mean_nothing(make, message):
    with pytest.raises(UserError, match=message):
        make()
