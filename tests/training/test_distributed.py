"""One run in two processes against the same run in one."""

import json
import multiprocessing
import os
import signal
import socket
import sys

import numpy as np
import pytest
import torch
from torch import nn

from gzlib.config import Recipe
from gzlib.data.loader import Loader
from gzlib.errors import UserError
from gzlib.models.encoders import build_encoder
from gzlib.models.heads import ClassHead, GalaxyModel
from gzlib.training import distributed, loop
from gzlib.training.checkpoint import Stopped

pytestmark = pytest.mark.slow

CPU = torch.device("cpu")
RECIPE = Recipe(examples=168, batch_size=21, learning_rate=3e-3, evaluations=4)  # odd: the two parts differ in size
AVERAGED = {"optimizer": "schedule-free", "schedule": "constant", "learning_rate": 1e-3}
ULP = float(np.finfo(np.float32).eps)  # relative step of a loss in float32: no sum is exacter
GALAXIES, TRAINING = 330, 40  # the rest makes two validation batches, of different size


def in_two_processes(tmp_path, function, *args):
    """What ``function(*args)`` returns in each of two processes joined as torchrun would, and their exit statuses."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["gzlib.training"])
    files = [tmp_path / f"result-{rank}.json" for rank in (0, 1)]
    children = [
        context.Process(target=_child, args=(rank, port, file, function, args)) for rank, file in enumerate(files)
    ]
    for child in children:
        child.start()
    for child in children:
        child.join(60)
    statuses = [child.exitcode for child in children]
    return [json.loads(file.read_text()) if file.is_file() else None for file in files], statuses


def _child(rank, port, file, function, args):
    sys.stderr = open(os.devnull, "w")  # failures are told by what is missing in the result
    torch.set_num_threads(1)
    os.environ |= {"TORCHELASTIC_RUN_ID": "test", "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2"}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    with distributed.joined():
        file.write_text(json.dumps(function(*args)))


def start(encoder, accumulate=1, **settings):
    """Model, training and validation loader, and recipe of a short run on pictures of noise."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, GALAXIES)
    images = (rng.integers(0, 40, (GALAXIES, 32, 32, 3)) + 10 * labels[:, None, None, None]).astype(np.uint8)
    recipe = Recipe(
        **vars(RECIPE) | {"accumulate": accumulate, "batch_size": RECIPE.batch_size // accumulate} | settings
    )
    torch.manual_seed(1)
    network = build_encoder(encoder)
    model = GalaxyModel(network, ClassHead(network.num_features, 3))
    shown = loop.train_loader(images, labels, np.arange(TRAINING), recipe=recipe, seed=2, device=CPU)
    return model, shown, Loader(images, labels, np.arange(TRAINING, GALAXIES), batch_size=16), recipe


def train(encoder, *, accumulate=1, loss_of=nn.functional.cross_entropy, settings=None, **kwargs):
    model, shown, val, recipe = start(encoder, accumulate, **(settings or {}))
    return loop.fit(model, loss_of, shown, val, recipe=recipe, seed=2, device=CPU, **kwargs)


def gradient(encoder):
    """Sum of the squared gradient of the first step: Adam would hide a factor in it."""
    model, shown, _, recipe = start(encoder)
    network = distributed.replicated(model, CPU)
    loop._gradients(network, nn.functional.cross_entropy, shown, 0, recipe=recipe, device=CPU)
    return sum(p.grad.square().sum().item() for p in model.parameters())


def curve(encoder, **kwargs):
    history = train(encoder, **kwargs)
    return history.train_loss + history.val_loss


def curves():
    """One with layer norms, one with batch norms, one accumulated, one with averaged batch norms; then a gradient."""
    runs = [curve("convnext_w4"), curve("resnet_w4"), curve("convnext_w4", accumulate=3)]
    runs.append(curve("resnet_w4", settings=AVERAGED))
    return [*runs, [gradient("convnext_w4")]]


def test_two_processes_follow_the_curve_of_one(tmp_path):
    (first, second), statuses = in_two_processes(tmp_path, curves)
    assert statuses == [0, 0]
    assert first == second  # decisions are taken together because the numbers are the same
    alone = curves()
    assert first != alone  # another order of summation: it was really shared out
    for together, by_itself in zip(first, alone, strict=True):
        assert together == pytest.approx(by_itself, abs=1e-5, rel=2 * ULP)


def train_until_stopped(checkpoint):
    """The second process is told to stop in its fourth step (its fifth loss, one being of a validation)."""
    losses = []

    def loss_of(prediction, labels):
        losses.append(1)
        if distributed.rank() == 1 and len(losses) == 5:
            os.kill(os.getpid(), signal.SIGTERM)
        return nn.functional.cross_entropy(prediction, labels)

    try:
        train("convnext_w4", loss_of=loss_of, checkpoint=checkpoint, key="k")
    except Stopped as stopped:
        return stopped.code


def test_a_stop_in_one_process_stops_both_and_one_goes_on_from_their_checkpoint(tmp_path):
    checkpoint = tmp_path / "run" / "checkpoint.pt"
    results, _ = in_two_processes(tmp_path, train_until_stopped, checkpoint)
    assert results == [75, 75]
    assert torch.load(checkpoint, weights_only=True)["step"] == 4
    history = train("convnext_w4", checkpoint=checkpoint, key="k")
    assert history.train_loss + history.val_loss == pytest.approx(curve("convnext_w4"), abs=1e-5)


def train_badly():
    """The loss is ruined in the second process alone."""

    def loss_of(prediction, labels):
        return nn.functional.cross_entropy(prediction, labels) * (float("nan") if distributed.rank() else 1.0)

    try:
        train("convnext_w4", loss_of=loss_of)
    except loop.NonFiniteLoss as error:
        return error.details["ids"]


def test_a_loss_that_is_not_finite_in_one_process_stops_both(tmp_path):
    (first, second), _ = in_two_processes(tmp_path, train_badly)
    assert len(first) == 21 and first == second


def test_without_torchrun_nothing_happens(monkeypatch):
    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
    with distributed.joined():
        assert (distributed.rank(), distributed.world(), distributed.is_main()) == (0, 1, True)
        assert distributed.share([1]) == [1]
        assert distributed.anywhere(True, False) == (True, False)
        assert distributed.made_once(lambda: "made") == "made"


def test_joined_batch_norm_is_batch_norm_and_other_kinds_are_refused():
    torch.manual_seed(0)
    pictures = torch.randn(5, 4, 6, 6)
    norm, joined = nn.BatchNorm2d(4), nn.BatchNorm2d(4)
    distributed._join_batch_norms(nn.Sequential(joined))
    assert type(joined) is distributed.JoinedBatchNorm
    for training in (True, False):
        torch.testing.assert_close(joined.train(training)(pictures), norm.train(training)(pictures))
    torch.testing.assert_close(joined.state_dict(), norm.state_dict())
    with pytest.raises(UserError, match=r"'0' \(BatchNorm1d\) cannot be trained in several CPU processes"):
        distributed._join_batch_norms(nn.Sequential(nn.BatchNorm1d(3)))
