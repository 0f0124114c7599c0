"""Starting weights from outside: a hub served here, folders that timm wrote, checkpoints of other programs."""

import argparse
import collections
import json
import os
import sys
import types
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from huggingface_hub import constants
from local_hub import serving
from safetensors.torch import save_file
from torch import nn

from gzlib import models
from gzlib.config import FinetuneConfig
from gzlib.data.sources.registry import model_files
from gzlib.errors import UserError
from gzlib.identity import file_hash
from gzlib.models import weights
from gzlib.training import runs

ARCHITECTURE = "test_convnext"  # 0.3M parameters, of timm's own tests
IMAGES = torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(0))


def network(name=ARCHITECTURE, seed=1, **options):
    torch.manual_seed(seed)
    return timm.create_model(name, **options).eval()


def features(encoder):
    with torch.no_grad():
        return encoder.eval()(IMAGES)


def expected(net, mean, std):
    """What the network itself gives before its classifier, for images normalised so."""
    net.reset_classifier(0)
    images = (IMAGES - torch.tensor(mean).view(1, -1, 1, 1)) / torch.tensor(std).view(1, -1, 1, 1)
    with torch.no_grad():
        return net.eval()(images)


def load(name, source, **options):
    said = []
    encoder = models.load_encoder(name, str(source), size=64, report=said.append, **options)
    return encoder, " ".join(said)


@pytest.mark.parametrize("form", ["safetensors", "bin", "file", "head-free"])
def test_folders_that_timm_wrote(tmp_path, form):
    net = network(num_classes=0 if form == "head-free" else 7)
    timm.models.save_for_hf(net, tmp_path, safe_serialization=form != "bin")
    source = {"file": tmp_path / "model.safetensors", "bin": f"local-dir:{tmp_path}"}.get(form, tmp_path)
    encoder, said = load(ARCHITECTURE, source)
    config = net.pretrained_cfg
    assert torch.equal(features(encoder), expected(net, config["mean"], config["std"]))
    assert ("head.fc.weight" in said.partition("left out:")[2]) == (form != "head-free")
    if form != "file":
        with pytest.raises(UserError, match=f"another encoder than 'resnet18': use --encoder {ARCHITECTURE}"):
            load("resnet18", source)
        assert models.encoder_for(str(source)) == ARCHITECTURE


def test_the_normalisation_of_a_folder_is_used_and_travels_with_the_weights(tmp_path):
    net = network(num_classes=0)
    net.pretrained_cfg |= {"mean": (0.1, 0.2, 0.3), "std": (0.4, 0.5, 0.6)}
    timm.models.save_for_hf(net, tmp_path, safe_serialization=True)
    encoder, said = load(ARCHITECTURE, tmp_path)
    assert "minus 0.1, 0.2, 0.3, over 0.4, 0.5, 0.6" in said
    truth = expected(net, (0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    assert torch.equal(features(encoder), truth)
    identity = weights.weights_identity(ARCHITECTURE, str(tmp_path))
    assert identity["mean"] == [0.1, 0.2, 0.3]
    assert identity["sha256"] == file_hash(tmp_path / "model.safetensors")
    model = models.GalaxyModel(encoder, models.ClassHead(encoder.num_features, 2))
    fresh = models.GalaxyModel(models.build_encoder(ARCHITECTURE, size=64), models.ClassHead(encoder.num_features, 2))
    fresh.load_state_dict(model.state_dict())
    assert torch.equal(features(fresh.encoder), truth)
    weights.write_weights(tmp_path / "own" / "weights.safetensors", model.state_dict())
    assert torch.equal(features(load(ARCHITECTURE, tmp_path / "own")[0]), truth)


def test_weights_of_another_image_size_are_converted_as_timm_does(tmp_path):
    net = network("vit_tiny_patch16_224", num_classes=3)
    timm.models.save_for_hf(net, tmp_path, safe_serialization=True)
    encoder, _ = load("vit_tiny_patch16_224", tmp_path)
    overlay = {"file": str(tmp_path / "model.safetensors"), "num_classes": 3}
    own = timm.create_model(
        "vit_tiny_patch16_224", pretrained=True, num_classes=0, img_size=64, pretrained_cfg_overlay=overlay
    )
    assert encoder.network.pos_embed.shape == (1, 17, 192)
    config = net.pretrained_cfg
    assert torch.equal(features(encoder), expected(own, config["mean"], config["std"]))


def misfit(state, how):
    first = next(iter(state))
    if how == "shape":
        state[first] = torch.zeros(5, 3, 4, 4)
    elif how == "missing":
        del state[first]
    elif how == "unexpected":
        state["stages.1.blocks.9.gamma"] = torch.zeros(3)
    elif how == "nan":
        state[first].view(-1)[5] = float("nan")
    elif how == "whole numbers":
        state[first] = state[first].to(torch.int8)
    return state


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("shape", r"another encoder.*other shapes or kinds: stem.0.weight \(5, 3, 4, 4\) for \(24, 3, 4, 4\)"),
        ("missing", "another encoder.*missing: stem.0.weight"),
        ("unexpected", "another encoder.*unexpected: stages.1.blocks.9.gamma"),
        ("nan", "'stem.0.weight' holds numbers that are not finite"),
        ("whole numbers", "other shapes or kinds: stem.0.weight of torch.int8"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path, how, message):
    save_file(misfit(network().state_dict(), how), tmp_path / "odd.safetensors")
    with pytest.raises(UserError, match=message) as caught:
        load(ARCHITECTURE, tmp_path / "odd.safetensors")
    assert "\n" not in str(caught.value)


def test_weights_of_a_deeper_network_of_the_same_family_are_refused(tmp_path):
    save_file(network("convnext_pico").state_dict(), tmp_path / "a.safetensors")
    with pytest.raises(UserError, match="another encoder than 'convnext_nano'"):
        load("convnext_nano", tmp_path / "a.safetensors")


@pytest.mark.parametrize(
    "prefix", ["", "encoder.", "model.", "module.", "zoobot.encoder.", "encoder._orig_mod.", "backbone.body."]
)
@pytest.mark.parametrize("nested", [False, True])
def test_prefixes_are_taken_off_and_said(tmp_path, prefix, nested):
    net = network(num_classes=0)
    state = {prefix + name: value for name, value in net.state_dict().items()} | {"decoder.weight": torch.ones(3)}
    torch.save({"epoch": 3, "state_dict": state} if nested else state, tmp_path / "a.pt")
    encoder, said = load(ARCHITECTURE, tmp_path / "a.pt")
    config = net.pretrained_cfg
    assert torch.equal(features(encoder), expected(net, config["mean"], config["std"]))
    assert (f"the prefix '{prefix}' taken off" in said) == bool(prefix)
    assert "left out: decoder.weight" in said


def zoobot_checkpoint(net, kind):
    """The layout that zoobot 2.9.0's LightningModules save; ``test_zoobots_own_checkpoints`` compares with its code."""
    state = {f"encoder.{name}": value for name, value in net.state_dict().items()}
    state |= {"head.linear.weight": torch.ones(2, 8), "head.linear.bias": torch.ones(2)}
    hparams = {"head_dropout_prob": 0.5, "training_mode": "full", "name": None, "timm_kwargs": {}}
    if kind == "pretrained":
        state |= {"loss_metrics.train/supervised_loss.mean_value": torch.zeros(())}
        pairs = {"smooth-or-featured": ["_smooth", "_featured-or-disk"]}
        hparams = {"architecture_name": ARCHITECTURE, "question_answer_pairs": pairs, "channels": 3}
    return {
        "epoch": 3,
        "global_step": 100,
        "pytorch-lightning_version": "2.5.0",
        "state_dict": state,
        "loops": {},
        "hparams_name": "kwargs",
        "hyper_parameters": hparams,
    }


@pytest.mark.parametrize("kind", ["finetuned", "pretrained", "tree", "greyscale"])
def test_zoobot_checkpoints(tmp_path, monkeypatch, kind):
    net = network(num_classes=0, in_chans=1 if kind == "greyscale" else 3)
    content = zoobot_checkpoint(net, kind)
    if kind == "tree":  # its decision tree is an object of a class that need not be installed here
        for name in ("zoobot", "zoobot.shared", "zoobot.shared.schemas"):
            module = types.ModuleType(name)
            monkeypatch.setitem(sys.modules, name, module)
        module.Schema = type("Schema", (), {"__module__": module.__name__})
        content["hyper_parameters"]["schema"] = module.Schema()
        content["hyper_parameters"]["schema"].questions = ["smooth"]
    torch.save(content, tmp_path / "a.ckpt")
    monkeypatch.undo()
    assert (kind == "tree") == (b"zoobot" in (tmp_path / "a.ckpt").read_bytes())
    encoder, said = load(ARCHITECTURE, tmp_path / "a.ckpt")
    with torch.no_grad():  # Zoobot's images are not normalised
        truth = net(IMAGES.mean(1, keepdim=True) if kind == "greyscale" else IMAGES)
    torch.testing.assert_close(features(encoder), truth, rtol=1e-4, atol=1e-5)
    assert "Zoobot" in said and "the prefix 'encoder.' taken off" in said and "head.linear.weight" in said
    assert ("takes one band" in said) == (kind == "greyscale")
    if kind == "pretrained":
        assert models.encoder_for(str(tmp_path / "a.ckpt")) == ARCHITECTURE


def test_zoobots_own_checkpoints(tmp_path):
    finetune = pytest.importorskip("zoobot.pytorch.training.finetune", reason="needs zoobot[pytorch]")
    lightning = pytest.importorskip("lightning")
    from zoobot.pytorch.estimators.define_model import ZoobotTree
    from zoobot.shared import schemas

    schema = schemas.decals_dr5_ortho_schema
    made = {"classifier": finetune.FinetuneableZoobotClassifier(num_classes=2, encoder=network(num_classes=0))}
    made["tree"] = finetune.FinetuneableZoobotTree(schema=schema, encoder=network(num_classes=0))
    pairs, dependencies = schema.question_answer_pairs, schema.dependencies
    made["pretrained"] = ZoobotTree(len(schema.label_cols), pairs, dependencies, architecture_name=ARCHITECTURE)
    for name, module in made.items():
        trainer = lightning.Trainer(logger=False, enable_checkpointing=False, accelerator="cpu")
        trainer.strategy.connect(module)
        trainer.save_checkpoint(tmp_path / f"{name}.ckpt", weights_only=True)
        encoder, said = load(ARCHITECTURE, tmp_path / f"{name}.ckpt")
        with torch.no_grad():
            truth = module.encoder.eval()(IMAGES)
        torch.testing.assert_close(features(encoder), truth.flatten(1))
        assert "Zoobot" in said


class Trap:
    """What a stranger's pickle may do: run a program when it is read."""

    def __reduce__(self):
        return os.system, ("touch sprung",)


@pytest.mark.parametrize(
    "kind", ["trap", "object", "pickle", "cut", "empty", "text", "lfs", "image", "no tensors", "folder"]
)
def test_files_that_are_no_weights(tmp_path, monkeypatch, kind):
    import pickle

    monkeypatch.chdir(tmp_path)
    file, state = tmp_path / "a.pt", network().state_dict()
    if kind == "trap":
        torch.save({"state_dict": state, "more": Trap()}, file)
    elif kind == "object":
        torch.save({"state_dict": state, "more": types.SimpleNamespace(a=1)}, file)
    elif kind == "pickle":
        file.write_bytes(pickle.dumps(Trap()))
    elif kind == "cut":
        torch.save(state, file)
        file.write_bytes(file.read_bytes()[:1000])
    elif kind == "no tensors":
        torch.save({"a": 1, "state_dict": {"b": 2}}, file)
    elif kind == "folder":
        file.mkdir()
    else:
        content = {
            "empty": b"",
            "text": b"hello",
            "image": b"\x89PNG",
            "lfs": b"version https://git-lfs.github.com/spec/v1\n",
        }
        file.write_bytes(content[kind])
    message = {
        "trap": "holds objects that only its own program can make.*system",
        "object": "SimpleNamespace",
        "no tensors": "holds no tensors",
        "lfs": "git lfs pull",
        "folder": "holds no weights",
    }.get(kind, "damaged, truncated, or no file of weights")
    with pytest.raises(UserError, match=message):
        load(ARCHITECTURE, "a.pt")
    assert not (tmp_path / "sprung").exists()


@pytest.mark.fault("weights: files of other programs", "read")
@pytest.mark.parametrize(
    "kind", ["renamed", "settings", "numpy", "lightning", "before 1.6", "half", "bfloat16", "float8"]
)
def test_honest_files_in_other_dress(tmp_path, kind):
    state, file = network().state_dict(), tmp_path / "a.ckpt"
    if kind == "renamed":
        torch.save(state, file := tmp_path / "a.safetensors")
    elif kind == "settings":  # as timm's own training writes them
        torch.save({"state_dict": state, "args": argparse.Namespace(lr=0.1), "metric": 3.0}, file)
    elif kind == "numpy":
        torch.save({"model": state, "best": np.float64(3), "rng": np.arange(4), "home": Path("/x")}, file)
    elif kind == "lightning":
        nested = {f"encoder.{name}": value for name, value in state.items()}
        torch.save({"state_dict": nested, "epoch": 3, "hyper_parameters": collections.OrderedDict(lr=0.1)}, file)
    elif kind == "before 1.6":
        torch.save(state, file, _use_new_zipfile_serialization=False)
    else:
        dtype = {"half": torch.half, "bfloat16": torch.bfloat16, "float8": torch.float8_e5m2}[kind]
        save_file({n: v.to(dtype) for n, v in state.items()}, file)
    encoder, _ = load(ARCHITECTURE, file)
    name = "stem.0.weight"
    torch.testing.assert_close(encoder.network.state_dict()[name], state[name], rtol=0.15, atol=0.02)


@pytest.mark.fault("weights: files that hold none", "refused in one sentence")
@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({0: torch.zeros(3)}, "tensor '0' without a name"),
        ({"a": torch.eye(3).to_sparse()}, "without its numbers|damaged"),
        ({"a": torch.zeros(3, device="meta")}, "without its numbers"),
        ([torch.zeros(3)], "holds no tensors by name"),
        (torch.zeros(3), "holds no tensors by name"),
        (nn.Linear(2, 2), "objects that only its own program can make .*of a whole model its .state_dict"),
    ],
)
def test_checkpoints_without_named_tensors(tmp_path, content, message):
    torch.save(content, tmp_path / "a.pt")
    with pytest.raises(UserError, match=message):
        load(ARCHITECTURE, tmp_path / "a.pt")


@pytest.mark.fault("weights: folders", "refused in one sentence")
@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"mean": [0.5] * 3, "std": [0.0] * 3}, "damaged or not timm's"),
        ({"mean": [0.5] * 4, "std": [0.5] * 4}, "damaged or not timm's"),
        ({"mean": [float("nan")] * 3, "std": [0.5] * 3}, "damaged or not timm's"),
        (None, "2 files of weights .a.ckpt, b.ckpt.; name one"),
    ],
)
def test_folders_that_leave_a_choice_or_no_sense(tmp_path, config, message):
    for name in ("a.ckpt", "b.ckpt") if config is None else ("model.safetensors",):
        torch.save(network().state_dict(), tmp_path / name)
    if config:
        text = json.dumps({"architecture": ARCHITECTURE, "pretrained_cfg": config})
        (tmp_path / "config.json").write_text(text)
    with pytest.raises(UserError, match=message):
        load(ARCHITECTURE, tmp_path)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("nowhere.safetensors", "There is no file or folder of weights 'nowhere.safetensors'"),
        ("some/folder", "There is no file or folder"),
        ("~no-such-user/w.safetensors", "There is no file or folder"),
        ("local-dir:~\0", "There is no file or folder"),
        ("xyz", "Unknown weights 'xyz': use 'random', 'imagenet', 'sky'"),
        ("convnext_nano.in99k", "timm has no weights 'convnext_nano.in99k'; of 'convnext_nano' it has convnext_nano."),
        ("file:0123456789abcdef", "started from a local file of weights"),
    ],
)
def test_weights_that_nobody_has(source, message):
    with pytest.raises(UserError, match=message):
        load("convnext_nano", source)


def test_a_run_records_what_a_file_holds_and_not_where_it_lay(tmp_path, monkeypatch):
    monkeypatch.setattr(runs, "survey_fingerprint", lambda survey: "0" * 64)
    save_file(network().state_dict(), tmp_path / "a.safetensors")
    (tmp_path / "b.safetensors").write_bytes((tmp_path / "a.safetensors").read_bytes())
    config = partial(FinetuneConfig, "t", ARCHITECTURE, 10)
    first, second = (config(weights=str(tmp_path / f"{name}.safetensors")) for name in "ab")
    recorded = weights.recorded_weights(first.weights)
    assert recorded == f"file:{file_hash(tmp_path / 'a.safetensors')[:16]}"
    assert runs.key_of(first, None) == runs.key_of(second, None)
    monkeypatch.chdir(tmp_path)
    assert runs.key_of(config(weights="./a.safetensors"), None) == runs.key_of(first, None)
    save_file(network(seed=2).state_dict(), tmp_path / "b.safetensors")
    assert runs.key_of(first, None) != runs.key_of(second, None)
    assert str(tmp_path) not in json.dumps(weights.weights_identity(ARCHITECTURE, first.weights))


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A hub of the test's own, as HF_ENDPOINT would name it: its folder of repositories."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    with serving(tmp_path / "hub") as address:
        template = address + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "ENDPOINT", address)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        forget_the_hub()
        yield tmp_path / "hub"
        forget_the_hub()


def forget_the_hub():
    model_files.cache_clear()
    weights.imagenet_file.cache_clear()


def ask(source):
    """What loading gives: the sum of the features, what was said, the encoder, the identity; or the refusal."""
    try:
        encoder, said = load(ARCHITECTURE, source)
        total = features(encoder).double().sum().item()
        return total, said, models.encoder_for(source), weights.weights_identity(ARCHITECTURE, source)
    except UserError as error:
        return str(error)


def test_a_hub(hub, monkeypatch):
    net = network(num_classes=0)
    for name, safe in (("zoobot-encoder-tiny", False), ("plain", True)):  # Zoobot's has a pytorch_model.bin alone
        timm.models.save_for_hf(net, hub / "someone" / name, safe_serialization=safe)
    config = timm.get_pretrained_cfg(f"{ARCHITECTURE}.r160_in1k")
    timm.models.save_for_hf(network(), hub / config.hf_hub_id, safe_serialization=True)
    (hub / "someone" / "odd").mkdir()
    sources = ["hf_hub:someone/zoobot-encoder-tiny", "hf-hub:someone/plain", "hf_hub:someone/plain@v1"]
    sources += ["imagenet", f"{ARCHITECTURE}.r160_in1k", "hf_hub:someone/odd", "hf_hub:someone/none", "hf_hub:a b/c"]
    answers = {source: ask(source) for source in sources}
    raw = expected(net, (0.0,), (1.0,)).double().sum().item()
    own = expected(net, config.mean, config.std).double().sum().item()
    with_head = expected(network(), config.mean, config.std).double().sum().item()

    total, said, encoder, identity = answers[sources[0]]
    assert total == pytest.approx(raw) and encoder == ARCHITECTURE and "images are not normalised" in said
    file = hub / "someone" / "zoobot-encoder-tiny" / "pytorch_model.bin"
    assert identity == {"tag": sources[0], "sha256": file_hash(file), "mean": [0.0] * 3, "std": [1.0] * 3}
    for source in sources[1:3]:
        assert answers[source][0] == pytest.approx(own)
    for source in sources[3:5]:
        assert answers[source][0] == pytest.approx(with_head)
        assert answers[source][3]["tag"] == f"{ARCHITECTURE}.r160_in1k"
        assert answers[source][3]["sha256"] == file_hash(hub / config.hf_hub_id / "model.safetensors")
    assert "not a repository of timm's" in answers[sources[5]]
    assert "answered 404" in answers[sources[6]]
    assert "does not name a repository" in answers[sources[7]]

    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    forget_the_hub()
    # What was downloaded needs no hub.
    assert [ask(s) for s in sources[:5]] == [answers[s] for s in sources[:5]]
    assert "could not be reached" in ask(sources[6])
