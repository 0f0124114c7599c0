"""Which of timm's encoders train here: families of all kinds at two image sizes, each put through one training step.

For each encoder and size: whether it is built, gives one feature vector an image, and all its gradients are finite; or
the sentence that refuses it before training. Beside it whether layer decay and gradient checkpointing work.
"""

import timm
import torch
from harness import row

from gzlib.config import Recipe
from gzlib.errors import UserError
from gzlib.models import ClassHead, GalaxyModel, build_encoder, count_parameters
from gzlib.training.loop import parameter_groups

SIZES = (64, 96)
# The smallest of each of timm's modules (those of 90 million parameters and more left out), and widely used others.
ENCODERS = (
    "beit_base_patch16_224 botnet26t_256 cait_xxs24_224 coat_tiny coatnet_nano_rw_224 convit_tiny "
    "convmixer_768_32 convnext_nano convnext_zepto_rms convnextv2_nano cpubone_nano crossvit_tiny_240 "
    "cs3darknet_focus_s csatv2 cspnext_tiny davit_tiny deit_tiny_patch16_224 densenet121 dla46x_c dpn48b "
    "edgenext_xx_small efficientformer_l1 efficientformerv2_s0 efficientnet_b0 efficientvim_m1 "
    "efficientvit_b0 efficientvit_m0 fasternet_t0 fastvit_t8 focalnet_tiny_srf gcvit_xxtiny gernet_s "
    "ghostnet_050 gmlp_ti16_224 halonet_h1 hardcorenas_b hgnetv2_b0 hiera_tiny_224 hrnet_w18_small iformer_t "
    "inception_next_atto inception_resnet_v2 inception_v3 inception_v4 lcnet_035 lcnetv2_small "
    "legacy_seresnet18 levit_128s lowformer_b0 mambaout_femto maxvit_pico_rw_256 maxvit_rmlp_tiny_rw_256 "
    "maxvit_tiny_tf_224 mixnet_s mnasnet_small mobilenetv2_035 mobilenetv4_conv_small mobilenetv5_base "
    "mobileone_s0 mobileone_s1 mobilevit_xxs mvitv2_tiny naflexvit_base_patch16_parfac_gap nest_tiny "
    "nextvit_small nf_regnet_b0 pit_ti_224 poolformer_s12 poolformerv2_s12 pvt_v2_b0 qwen3_vit_88m rdnet_tiny "
    "regnetx_002 regnety_002 repghostnet_050 repvgg_a0 repvit_m1 res2next50 resmlp_12_224 resnest14d "
    "resnet10t resnet18 resnet50 resnetv2_18 resnext50_32x4d rexnet_100 sam2_hiera_tiny selecsls42 "
    "sequencer2d_s shvit_s1 skresnet18 starnet_s050 swiftformer_xs swin_tiny_patch4_window7_224 "
    "swinv2_cr_tiny_224 swinv2_tiny_window16_256 tf_efficientnet_lite0 tf_efficientnetv2_b0 tiny_vit_5m_224 "
    "tnt_s_legacy_patch16_224 tresnet_m vit_base_patch16_clip_224 vit_small_patch14_dinov2 "
    "vit_tiny_patch16_224 vit_tiny_patch16_dinov3_qkvb wide_resnet50_2"
)


def family(name: str) -> str:
    """timm's module of an encoder."""
    return timm.model_entrypoint(name).__module__.rpartition(".")[2]


def outcome(name: str, size: int) -> dict:
    """What becomes of an encoder at a size: ``outcome`` "works" or "refused", and the details."""
    about = {"family": family(name), "encoder": name, "size": size}
    try:
        encoder = build_encoder(name, size=size)
    except UserError as error:
        return about | {"outcome": "refused", "sentence": str(error), "parameters": None}
    model = GalaxyModel(encoder, ClassHead(encoder.num_features, 2)).train()
    images = torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    model(images).square().sum().backward()
    gradients = [p.grad for p in encoder.parameters() if p.grad is not None]
    finite = bool(gradients) and all(bool(torch.isfinite(gradient).all()) for gradient in gradients)
    scales = {group["lr_scale"] for group in parameter_groups(model, Recipe(layer_decay=0.5)) if "lr_scale" in group}
    try:
        encoder.network.set_grad_checkpointing(True)
        checkpointing = True
    except AssertionError:
        checkpointing = False
    return about | {
        "outcome": "works" if finite and len(scales) > 2 else "fails",
        "sentence": f"black margin of {encoder.margin} px" if encoder.margin else "",
        "parameters": count_parameters(encoder),
        "features": encoder.num_features,
        "layer_groups": len(scales),
        "gradient_checkpointing": checkpointing,
    }


def rows():
    found = [outcome(name, size) for name in ENCODERS.split() for size in SIZES]
    for size in SIZES:
        here = [each for each in found if each["size"] == size]
        for what in ("works", "refused", "fails"):
            those = [each for each in here if each["outcome"] == what]
            families = {each["family"] for each in those}
            detail = f"{len(those)} of {len(here)} encoders, of {len({each['family'] for each in here})} families"
            limits = {"goal": ">= 60", "ok": len(families) >= 60} if what == "works" else {}
            limits = {"goal": "0", "ok": not those} if what == "fails" else limits
            yield row(f"timm.{size}px.{what}", len(families), "families", detail=detail, **limits)
    for each in found:
        name = f"timm.{each['size']}px.{each['encoder']}"
        yield row(name, each["parameters"], "parameters", detail=each["sentence"] or each["outcome"], **each)
