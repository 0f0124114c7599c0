import torch

from gzlib.models.encoders import build_encoder, forward_flops


def test_flops_are_two_for_each_multiply_add_of_every_convolution():
    network, counted = build_encoder("resnet_w4").eval(), []

    def count(layer, inputs, output):
        kernel = layer.in_channels // layer.groups * layer.kernel_size[0] * layer.kernel_size[1]
        counted.append(2 * kernel * output[0].numel())

    for layer in network.modules():
        if isinstance(layer, torch.nn.Conv2d):
            layer.register_forward_hook(count)
    with torch.no_grad():
        network(torch.zeros(1, 3, 64, 64))
    assert forward_flops("resnet_w4", 64) == sum(counted) > 0


def test_flops_grow_with_the_picture_and_the_width():
    assert 3.5 < forward_flops("resnet_w4", 128) / forward_flops("resnet_w4", 64) < 4.5
    assert forward_flops("convnext_w8", 64) > 2 * forward_flops("convnext_w4", 64)
