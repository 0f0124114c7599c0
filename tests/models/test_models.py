import copy
import subprocess
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from sklearn.datasets import load_sample_image

from gzlib import models
from gzlib.errors import UserError
from gzlib.models import weights
from gzlib.models.encoders import SAFE_SIDE, SkippingConv2d, _guarded, placed


@pytest.mark.parametrize("name", [*models.LADDER[:4], "resnet_w6", "tf_efficientnet_lite0", "resnet18"])
def test_encoders_give_pooled_features_and_gradients(name):
    encoder = models.build_encoder(name)
    features = encoder(torch.rand(2, 3, 32, 32))
    assert features.shape == (2, encoder.num_features)
    features.sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in encoder.parameters() if p.grad is not None)


def test_ladder_spans_the_sizes_it_promises():
    sizes = [models.count_parameters(models.build_encoder(name)) for name in models.LADDER]
    assert sizes == sorted(sizes)
    assert sizes[0] < 0.05e6
    assert sizes[-1] == 3_372_680  # ConvNeXt-Atto without its classifier and layer scale


@pytest.mark.parametrize("name", ["convnext_w1", "resnet_w0", "convnext_w9999", "galaxynet", "tf_efficientnet_lite9"])
def test_unknown_encoder(name):
    with pytest.raises(UserError, match=name):
        models.build_encoder(name)


def test_concentrations_stay_in_their_range_and_start_where_told():
    head = models.DirichletHead(8, 3)
    extreme = head(torch.tensor([[-1e4] * 8, [1e4] * 8]))
    assert extreme.min() >= 1
    assert extreme.max() <= 101
    head.start_at(np.array([2.0, 10.0, 40.0]))
    np.testing.assert_allclose(head(torch.zeros(1, 8)).detach(), [[2, 10, 40]], rtol=1e-4)


def test_class_and_regression_heads():
    features = torch.randn(5, 8)
    assert models.ClassHead(8, 4)(features).shape == (5, 4)
    fraction = models.RegressionHead(8)(features)
    assert fraction.shape == (5,)
    assert ((fraction > 0) & (fraction < 1)).all()
    head = models.RegressionHead(8)
    head.start_at(0.2)
    assert head(torch.zeros(1, 8)).item() == pytest.approx(0.2)


@pytest.mark.parametrize("name", weights.PACKAGED)
def test_packaged_imagenet_weights_know_a_photograph(name):
    import timm

    model = timm.create_model(name)
    model.load_state_dict(weights.packaged_state(name))
    model.eval()
    side = model.pretrained_cfg["input_size"][-1]
    picture = torch.from_numpy(load_sample_image("china.jpg").copy()).permute(2, 0, 1)[None, :, :, 100:527] / 255
    picture = torch.nn.functional.interpolate(picture, (side, side), mode="bilinear", antialias=True)
    with torch.no_grad():
        logits = model((picture - 0.5) / 0.5)
    assert logits.shape == (1, 1000)
    assert torch.isfinite(logits).all()
    probability = logits.softmax(1)[0]
    # The photograph shows a temple in Beijing; in ImageNet's numbers: palace 698, bell cote 442, monastery 663.
    assert probability.argmax() in (698, 442, 663)
    assert 698 in probability.topk(3).indices
    assert probability.max() > 0.1


def test_imagenet_encoder_differs_from_a_random_one():
    torch.manual_seed(0)
    random = models.load_encoder("tf_efficientnet_lite0", "random")
    trained = models.load_encoder("tf_efficientnet_lite0", "imagenet")
    stem = "network.conv_stem.weight"
    assert not torch.equal(random.state_dict()[stem], trained.state_dict()[stem])


def test_unreachable_hub_gives_one_sentence_with_an_alternative(monkeypatch):
    def unreachable(*args, **kwargs):
        raise OSError("no route")

    monkeypatch.setattr(weights, "hub_reachable", lambda: False)
    monkeypatch.setattr(weights, "_download", unreachable)
    with pytest.raises(UserError, match=r"could not be reached.*tf_efficientnet_lite0") as caught:
        models.load_encoder("resnet18", "imagenet")
    assert "\n" not in str(caught.value)


def test_weights_of_a_run(own_store):
    from gzlib import paths

    model = models.GalaxyModel(models.build_encoder("convnext_w4"), models.DirichletHead(32, 5))
    folder = paths.STORE / "abc"
    folder.mkdir(parents=True)
    save_file(model.state_dict(), folder / "weights.safetensors")
    loaded = models.load_encoder("convnext_w4", "abc")
    stem = "network.stem.0.weight"
    assert torch.equal(loaded.state_dict()[stem], model.state_dict()[f"encoder.{stem}"])
    with pytest.raises(UserError, match="another encoder"):
        models.load_encoder("convnext_w5", "abc")
    with pytest.raises(UserError, match="Unknown weights 'xyz'"):
        models.load_encoder("convnext_w4", "xyz")
    (folder / "weights.safetensors").unlink()
    (folder / "run.json").write_text("{}")
    with pytest.raises(UserError, match="never committed"):
        models.load_encoder("convnext_w4", "abc")


def damaged_copies(content):
    """Cut at 151 lengths, and with one of 400 bits flipped."""
    rng = np.random.default_rng(0)
    yield from (content[:length] for length in sorted({round(i * (len(content) - 1) / 150) for i in range(151)}))
    for place in [*rng.choice(len(content), 200, replace=False), *rng.choice(2000, 200, replace=False)]:
        flipped = bytearray(content)
        flipped[place] ^= 1 << rng.integers(8)
        yield bytes(flipped)


def test_damaged_weights_are_never_loaded(tmp_path):
    torch.manual_seed(0)
    state = models.build_encoder("resnet_w4").state_dict()
    file = tmp_path / "weights.safetensors"
    weights.write_weights(file, state)
    content, refused = file.read_bytes(), 0
    assert all(torch.equal(value, state[name]) for name, value in weights.read_weights(file).items())
    for bad in damaged_copies(content):
        file.write_bytes(bad)
        try:
            found = weights.read_weights(file)
        except UserError:
            refused += 1
        else:  # the flipped bit is in what names the checksum, or in a blank
            assert found.keys() == state.keys() and all(torch.equal(found[name], state[name]) for name in state)
    assert refused >= 151 + 380


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_weights_that_are_no_numbers_are_refused(own_store, value):
    from gzlib import paths

    state = models.GalaxyModel(models.build_encoder("resnet_w4"), models.DirichletHead(32, 5)).state_dict()
    name = next(name for name in state if name.endswith("weight"))
    state[name].view(-1)[-1] = value
    file = paths.STORE / "abc" / "weights.safetensors"
    with pytest.raises(UserError, match=f"'{name}' holds numbers that are not finite"):
        weights.write_weights(file, state)
    file.parent.mkdir(parents=True)
    save_file(state, file)  # a stranger's file without a checksum
    with pytest.raises(UserError, match=f"'{name}' holds numbers that are not finite"):
        models.load_encoder("resnet_w4", "abc")


def test_imagenet_weights_of_an_own_encoder_are_refused_in_one_sentence():
    with pytest.raises(UserError, match="has no ImageNet weights for 'convnext_w10'; it has for tf_efficientnet_lite0"):
        weights.weights_identity("convnext_w10", "imagenet")


@pytest.mark.parametrize("name", ["resnet_w4", "resnet_w6", "resnet_w8"])
def test_narrow_networks_learn_from_large_images_on_a_processor(name):
    """With channels last, oneDNN's own strided 1 x 1 convolution of few channels ends the program on its way back."""
    encoder = models.build_encoder(name, size=224)
    strided = [m for m in encoder.modules() if isinstance(m, torch.nn.Conv2d) and m.stride == (2, 2)]
    small = [m for m in strided if m.kernel_size == (1, 1) and m.in_channels < 16]
    assert small and all(type(m) is SkippingConv2d for m in small)  # else what follows would end the tests
    encoder = placed(encoder, torch.device("cpu"))
    images = torch.rand(2, 3, 224, 224).contiguous(memory_format=torch.channels_last)
    encoder(images).sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in encoder.parameters())


def test_narrow_networks_learn_from_an_odd_number_of_images_in_two_threads():
    """There the same convolution ends the program for small images, too; so it is tried in a program of its own."""
    code = """
import torch
from gzlib.models import build_encoder
from gzlib.models.encoders import placed
torch.set_num_threads(2)
encoder = placed(build_encoder("resnet_w12", size=48), torch.device("cpu"))
for batch in (33, 63, 113) * 4:
    images = torch.rand(batch, 3, 48, 48).contiguous(memory_format=torch.channels_last)
    encoder(images).square().mean().backward()
print(all(torch.isfinite(p.grad).all() for p in encoder.parameters()))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "True\n"), done.stderr[-300:]


@pytest.mark.parametrize(("stride", "side"), [(2, 1), (4, 1), (4, 3), (2, 2)])
@pytest.mark.parametrize("groups", [1, 16])
def test_weights_that_meet_nothing_but_padding_have_no_gradient_in_half_precision(stride, side, groups):
    torch.manual_seed(0)
    conv = torch.nn.Conv2d(16, 32, 3, stride, padding=1, groups=groups).to(memory_format=torch.channels_last)
    plain = copy.deepcopy(conv)
    (guarded,) = _guarded(torch.nn.Sequential(conv))
    images = torch.randn(20, 16, side, side).contiguous(memory_format=torch.channels_last)
    plain(images).square().sum().backward()
    for _ in range(20):
        used = [torch.full((conv.weight.numel(),), torch.nan) for _ in range(64)]  # what memory may hold before
        del used
        conv.weight.grad = None
        with torch.autocast("cpu", torch.bfloat16):
            out = guarded(images)
        out.float().square().sum().backward()
        torch.testing.assert_close(conv.weight.grad, plain.weight.grad, rtol=0.05, atol=0.5)
    assert side >= stride or (conv.weight.grad == 0).any()


def test_runs_in_half_precision_on_one_pixel_are_repeatable():
    encoder = placed(models.build_encoder("resnet_w4", size=16), torch.device("cpu"))
    images = torch.rand(20, 3, 16, 16).contiguous(memory_format=torch.channels_last)
    found = []
    for _ in range(20):
        used = [torch.full((4608,), torch.nan) for _ in range(64)]
        del used
        encoder.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16):
            out = encoder(images)
        out.float().square().mean().backward()
        found.append(torch.cat([p.grad.flatten() for p in encoder.parameters()]))
    assert torch.isfinite(found[0]).all() and all(torch.equal(found[0], other) for other in found)


@pytest.mark.parametrize("side", [12, 17, 40])
def test_leaving_pixels_out_first_changes_nothing_and_of_small_images_no_bit(side):
    torch.manual_seed(0)
    plain = torch.nn.Conv2d(6, 12, 1, 2, bias=False).to(memory_format=torch.channels_last)
    skipping = torch.nn.Conv2d(6, 12, 1, 2, bias=False).to(memory_format=torch.channels_last)
    skipping.__class__ = SkippingConv2d
    skipping.load_state_dict(plain.state_dict())
    images = torch.randn(8, 6, side, side).contiguous(memory_format=torch.channels_last)
    found = []
    for conv in (plain, skipping):
        x = images.clone().requires_grad_()
        out = conv(x)
        out.square().sum().backward()
        found.append((out.detach(), x.grad, conv.weight.grad))
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)
        assert side > SAFE_SIDE or torch.equal(a, b)  # the study's own images are small
