"""timm's families: built for the size of the images, with the width that comes out, or refused with sizes they take."""

import json

import pytest
import timm
import torch
from timm_families import ENCODERS, SIZES, family, outcome

from gzlib import models, paths
from gzlib.errors import UserError
from gzlib.models.encoders import timm_arguments

TABLE = paths.ROOT / "data" / "benchmarks" / "timm_families.json"


@pytest.mark.parametrize(
    ("name", "size", "width"),
    [
        ("maxvit_pico_rw_256", 64, 256),  # windows
        ("maxvit_pico_rw_256", 96, 256),
        ("vit_tiny_patch16_224", 64, 192),  # position codes
        ("swin_tiny_patch4_window7_224", 96, 768),
        ("levit_128s", 64, 384),
        ("mobilenetv3_small_050", 64, 1024),  # a hidden layer before the classifier: num_features is 288
        ("mobilenetv4_conv_small_035", 64, 1280),
        ("ghostnet_050", 64, 1280),
        ("efficientvit_b0", 96, 1280),
    ],
)
def test_families_with_sizes_and_widths_of_their_own(name, size, width):
    encoder = models.build_encoder(name, size=size).eval()
    with torch.no_grad():
        assert encoder(torch.rand(2, 3, size, size)).shape == (2, width)
    assert encoder.num_features == width


def test_patches_that_do_not_divide_the_image_get_black_margins():
    encoder = models.build_encoder("vit_small_patch14_dinov2", size=64).eval()
    assert encoder.margin == 6 and encoder.network.patch_embed.img_size == (70, 70)
    images = torch.rand(1, 3, 64, 64)
    padded = torch.zeros(1, 3, 70, 70)
    padded[:, :, 3:67, 3:67] = images
    with torch.no_grad():
        whole = encoder.network((padded - encoder.mean) / encoder.std)
        assert torch.equal(encoder(images), whole)


@pytest.mark.parametrize(
    ("name", "scale", "n"),
    [
        ("test_convnext", "gamma", 9),  # 1e-6 in timm
        ("poolformer_s12", "scale", 24),  # 1e-5
        ("resmlp_12_224", "ls2", 24),  # 1e-4
        ("fastvit_t8", "gamma", 20),  # 1e-5, of shape (channels, 1, 1)
        ("vit_tiny_patch16_224", "gamma", 0),
    ],
)
def test_branches_of_new_networks_start_at_full_strength(name, scale, n):
    network = models.build_encoder(name).network
    scales = [p for path, p in network.named_parameters() if path.split(".")[-1] == scale]
    theirs = dict(timm.create_model(name, num_classes=0).named_parameters())
    changed = {
        path
        for path, p in network.named_parameters()
        if bool((theirs[path] == theirs[path].flatten()[0]).all()) and not torch.equal(p, theirs[path])
    }
    assert len(changed) == n
    assert all(bool((p == 1).all()) for p in scales)


def test_layer_scales_of_weights_from_elsewhere_stay(tmp_path):
    network = timm.create_model("test_convnext", num_classes=0)
    timm.models.save_for_hf(network, tmp_path, safe_serialization=True)
    loaded = models.load_encoder("test_convnext", str(tmp_path), report=lambda text: None).network
    scales = {path: p for path, p in network.named_parameters() if path.endswith("gamma")}
    assert scales and all(torch.equal(p, dict(loaded.named_parameters())[path]) for path, p in scales.items())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "size", "taken"),
    [("inception_v3", 64, "80"), ("efficientformer_l1", 96, "224"), ("maxvit_pico_rw_256", 80, "64, 96")],
)
def test_other_sizes_are_refused_with_sizes_that_work(name, size, taken):
    with pytest.raises(UserError, match=f"'{name}' cannot take images of {size} px; it takes .*{taken}") as caught:
        models.build_encoder(name, size=size)
    for side in str(caught.value).partition("it takes ")[2].removesuffix(" px.").split(", "):
        assert timm_arguments(name, int(side))["features"] > 0


@pytest.mark.parametrize("name", ["resnet_w4", "convnext_w4", "tf_efficientnet_lite0", "vit_tiny_patch16_224"])
def test_looking_for_a_size_uses_up_no_random_numbers(name):
    torch.manual_seed(0)
    timm_arguments.__globals__["_plain"].cache_clear()
    timm_arguments.__globals__["_arguments"].cache_clear()
    first = models.build_encoder(name, size=224)
    after = torch.rand(1)
    torch.manual_seed(0)
    second = models.build_encoder(name)
    assert torch.equal(after, torch.rand(1))
    pairs = zip(first.state_dict().items(), second.state_dict().items(), strict=True)
    assert all(a == b and torch.equal(x, y) for (a, x), (b, y) in pairs)


def test_the_committed_table_is_of_these_encoders_and_many_families():
    rows = [row for row in json.loads(TABLE.read_text())["rows"] if "encoder" in row]
    assert [(row["encoder"], row["size"]) for row in rows] == [(n, size) for n in ENCODERS.split() for size in SIZES]
    for size in SIZES:
        working = {row["family"] for row in rows if row["size"] == size and row["outcome"] == "works"}
        assert len(working) >= 60
    assert {row["outcome"] for row in rows} <= {"works", "refused"}
    assert all(row["family"] == family(row["encoder"]) and timm.is_model(row["encoder"]) for row in rows)


@pytest.mark.long
def test_every_family_does_what_the_committed_table_says():
    for row in json.loads(TABLE.read_text())["rows"]:
        if "encoder" in row:
            found = outcome(row["encoder"], row["size"])
            assert {name: row[name] for name in found} == found
