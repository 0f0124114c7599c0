"""Whatever happens to a run, its state is the old one or the new one, and it knows whose it is."""

import errno
import hashlib
import io
import os
import signal
import threading

import numpy as np
import pytest
import torch
from torch import nn

from gzlib.config import Conduct, Recipe
from gzlib.data.loader import Loader
from gzlib.errors import NotWritten, UserError
from gzlib.training import checkpoint as checkpoint_module
from gzlib.training import loop
from gzlib.training.checkpoint import (
    SEAL,
    Stopped,
    leave,
    load_checkpoint,
    previous_of,
    save_checkpoint,
    stop_requests,
)

CPU = torch.device("cpu")
RECIPE = Recipe(examples=160, batch_size=16, evaluations=2)


@pytest.fixture(autouse=True)
def interrupts():
    """A shell starts background jobs with SIGINT ignored; here it is heard, as at a terminal."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def model_of(width=4):
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 64, width), nn.ReLU(), nn.Linear(width, 2))


def train(model, path=None, *, at_step=None, do=None, device=CPU, **kwargs):
    """A run of ten steps on noise; ``do()`` is called in step ``at_step`` (from 0, the validation at 5 left out)."""
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 255, (50, 8, 8, 3)).astype(np.uint8), rng.integers(0, 2, 50)
    steps = iter(range(10))

    def loss_of(prediction, target):
        if prediction.requires_grad and next(steps) == at_step:
            do()
        return nn.functional.cross_entropy(prediction, target)

    shown = loop.train_loader(images, labels, np.arange(40), recipe=RECIPE, seed=1, device=device)
    val = Loader(images, labels, np.arange(40, 50), batch_size=16, device=device)
    return loop.fit(
        model.to(device), loss_of, shown, val, recipe=RECIPE, seed=1, device=device, checkpoint=path, **kwargs
    )


def saved(path, key="k", model=None):
    """A checkpoint as a run would write it."""
    model = model or model_of()
    optimiser = torch.optim.AdamW(model.parameters())
    save_checkpoint(path, model, optimiser, key=key, step=3, best=None, history={})


def same(a, b):
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


@pytest.mark.parametrize(
    ("number", "exception", "status"),
    [(signal.SIGTERM, Stopped, 75), (signal.SIGINT, KeyboardInterrupt, None), (signal.SIGHUP, Stopped, 75)],
)
def test_a_stopped_run_goes_on_bit_for_bit(tmp_path, number, exception, status):
    path, undisturbed, lines = tmp_path / "checkpoint.pt", model_of(), []
    expected = train(undisturbed)
    before = [signal.getsignal(s) for s in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)]
    with pytest.raises(exception) as stop:
        train(
            model_of(), path, at_step=6, do=lambda: os.kill(os.getpid(), number), conduct=Conduct(report=lines.append)
        )
    assert lines[-1] == "Stopped after 7 of 10 steps; started again, the run continues from here."
    assert getattr(stop.value, "code", None) == status
    assert [signal.getsignal(s) for s in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)] == before
    assert torch.load(path, weights_only=True)["step"] == 7
    resumed = model_of()
    history = train(resumed, path)
    assert (history.val_loss, history.train_loss) == (expected.val_loss, expected.train_loss)
    assert same(resumed, undisturbed)


def test_a_stop_while_the_last_validation_runs_is_not_forgotten(tmp_path, monkeypatch):
    """Else a sweep that is told to stop would go on with its next run."""
    path, evaluate, calls = tmp_path / "checkpoint.pt", loop.evaluate, []

    def stopped_in(*args, **kwargs):
        calls.append(1)
        if len(calls) == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return evaluate(*args, **kwargs)

    monkeypatch.setattr(loop, "evaluate", stopped_in)
    with pytest.raises(Stopped):
        train(model_of(), path)
    finished, undisturbed = model_of(), model_of()
    assert train(finished, path).val_loss == train(undisturbed).val_loss
    assert len(calls) == 5  # the one that was cut short is made again
    assert same(finished, undisturbed)


def test_a_second_interrupt_does_not_wait():
    with stop_requests() as stops:
        os.kill(os.getpid(), signal.SIGINT)
        assert stops == [signal.SIGINT]
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_a_signal_that_somebody_wants_unheard_stays_unheard():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with stop_requests() as stops:
            os.kill(os.getpid(), signal.SIGINT)
            assert stops == []
        assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_no_handlers_outside_the_main_thread():
    before, seen = signal.getsignal(signal.SIGTERM), []

    def elsewhere():
        with stop_requests() as stops:
            seen.append((signal.getsignal(signal.SIGTERM), stops))

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert seen == [(before, [])]
    with pytest.raises(Stopped):
        leave([])  # told by another process


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"\0" * 9999])
def test_a_damaged_checkpoint_is_as_good_as_none(tmp_path, content):
    path, lines, expected, again = tmp_path / "checkpoint.pt", [], model_of(), model_of()
    train(expected)
    path.write_bytes(content)
    train(again, path, conduct=Conduct(report=lines.append))
    assert lines[0] == f"The checkpoint '{path}' is damaged or truncated; restarting from scratch."
    assert same(again, expected)


def loaded(path):
    """What a run finds at its start: the state (None for none), and what it is told."""
    model, lines = model_of(), []
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    stored = load_checkpoint(path, model, torch.optim.AdamW(model.parameters()), key="k", report=lines.append)
    return (model if stored else None), lines


def cut_lengths(size):
    """151 lengths from nothing to all but the last byte."""
    return sorted({round(i * (size - 1) / 150) for i in range(151)})


@pytest.mark.parametrize("previous", [False, True])
def test_no_truncation_and_no_flipped_bit_is_loaded(tmp_path, previous):
    path = tmp_path / "checkpoint.pt"
    for _ in range(2 if previous else 1):
        saved(path)
    content, expected = path.read_bytes(), model_of()
    assert previous_of(path).exists() == previous
    lengths, rng = cut_lengths(len(content)), np.random.default_rng(0)
    assert len(lengths) == 151
    damaged = [content[:length] for length in lengths]
    places = [*rng.choice(len(content), 250, replace=False), *range(len(content) - 120, len(content))]
    for place in places:
        flipped = bytearray(content)
        flipped[place] ^= 1 << rng.integers(8)
        damaged.append(bytes(flipped))
    for bad in damaged:
        path.write_bytes(bad)
        found, lines = loaded(path)
        instead = "going on from the one before it" if previous else "restarting from scratch"
        assert lines == [f"The checkpoint '{path}' is damaged or truncated; {instead}."]
        assert same(found, expected) if previous else found is None
    path.write_bytes(content)
    found, lines = loaded(path)
    assert same(found, expected) and lines == []


def test_a_run_goes_on_from_the_checkpoint_before_a_damaged_one(tmp_path):
    path, undisturbed, lines = tmp_path / "checkpoint.pt", model_of(), []
    expected = train(undisturbed)
    with pytest.raises(Stopped):
        train(
            model_of(),
            path,
            at_step=6,
            do=lambda: os.kill(os.getpid(), signal.SIGTERM),
            conduct=Conduct(checkpoint_seconds=0),
        )
    path.write_bytes(path.read_bytes()[:-1])
    resumed = model_of()
    history = train(resumed, path, conduct=Conduct(report=lines.append))
    assert "going on from the one before it" in lines[0]
    assert history.val_loss == expected.val_loss and same(resumed, undisturbed)
    previous_of(path).write_bytes(b"")
    path.write_bytes(b"")
    assert loaded(path) == (None, [
        f"The checkpoint '{path}' is damaged or truncated; going on from the one before it.",
        f"The checkpoint '{previous_of(path)}' is damaged or truncated; restarting from scratch.",
    ])  # fmt: skip


def test_without_links_the_previous_checkpoint_is_kept_too(tmp_path, monkeypatch):
    path = tmp_path / "checkpoint.pt"
    monkeypatch.setattr(os, "link", lambda *_: (_ for _ in ()).throw(PermissionError(errno.EPERM, "no links")))
    for key in ("a", "k"):
        saved(path, key=key)
    assert path.exists() and previous_of(path).exists() and len(list(tmp_path.iterdir())) == 2
    assert loaded(path)[0] is not None


def sealed(path, content):
    """A file of anybody's with the right checksum."""
    file = io.BytesIO()
    torch.save(content, file)
    path.write_bytes(file.getvalue() + SEAL + hashlib.sha256(file.getvalue()).hexdigest().encode())


def test_a_foreign_checkpoint_is_refused_and_left_alone(tmp_path):
    path = tmp_path / "checkpoint.pt"
    saved(path, key="a")
    content = path.read_bytes()
    with pytest.raises(UserError, match="is the checkpoint of run 'a', not of 'b'; delete"):
        train(model_of(), path, key="b")
    with pytest.raises(UserError, match="holds another model than this run's; delete it"):
        train(model_of(width=5), path, key="a")
    assert path.read_bytes() == content
    for stranger in ({"something": 1}, [1], 7):
        sealed(path, stranger)
        with pytest.raises(UserError, match="is not a checkpoint of this program; delete it"):
            train(model_of(), path)
    sealed(path, {"model": 1, "optimiser": 2, "step": 0, "best": None, "history": {}, "key": ""})
    with pytest.raises(UserError, match="holds another model"):
        train(model_of(), path)


def test_no_code_in_a_checkpoint_is_run(tmp_path):
    path = tmp_path / "checkpoint.pt"

    class Trap:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "trapped"),))

    for write in (sealed, lambda path, content: torch.save(content, path)):
        write(path, {"model": Trap()})
        assert load_checkpoint(path, model_of(), None, key="", report=lambda line: None) is None
        assert not (tmp_path / "trapped").exists()


class FullDisk:
    """A file that takes a little and then meets a full disk."""

    def __init__(self, file):
        self.file = file

    def write(self, data):
        if self.file.tell() > 500:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return self.file.write(data)

    def flush(self):
        self.file.flush()


def test_a_full_disk_keeps_the_earlier_checkpoint_and_training_goes_on(tmp_path, monkeypatch):
    path, lines, model, undisturbed = tmp_path / "checkpoint.pt", [], model_of(), model_of()
    saved(path, key="k")
    earlier = path.read_bytes()
    write_whole = checkpoint_module.write_whole
    monkeypatch.setattr(
        checkpoint_module, "write_whole", lambda path, write: write_whole(path, lambda file: write(FullDisk(file)))
    )
    with pytest.raises(NotWritten, match="No space left on device"):
        saved(path, key="k")
    assert path.read_bytes() == earlier and not previous_of(path).exists()
    path.unlink()
    train(model, path, conduct=Conduct(checkpoint_seconds=0, report=lines.append))
    assert any("No space left on device" in line and "continues from an earlier checkpoint" in line for line in lines)
    assert not path.exists() and not list(tmp_path.glob(".*"))
    train(undisturbed)
    assert same(model, undisturbed)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU: there a resumed run is the same to rounding")
def test_resume_on_a_gpu_to_a_relative_tolerance_of_1e_4(tmp_path):
    gpu, path = torch.device("cuda"), tmp_path / "checkpoint.pt"
    undisturbed, resumed = model_of(), model_of()
    expected = train(undisturbed, device=gpu)
    with pytest.raises(Stopped):
        train(model_of(), path, at_step=6, do=lambda: os.kill(os.getpid(), signal.SIGTERM), device=gpu)
    assert train(resumed, path, device=gpu).val_loss == pytest.approx(expected.val_loss, rel=1e-4)
