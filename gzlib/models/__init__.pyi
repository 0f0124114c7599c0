"""Encoders, heads and starting weights."""

from .encoders import LADDER as LADDER  # small ConvNeXts, by width
from .encoders import TRAINING_FACTOR as TRAINING_FACTOR  # operations of training over those of a forward pass
from .encoders import Encoder as Encoder  # a pooled feature extractor
from .encoders import build_encoder as build_encoder  # an encoder with random weights
from .encoders import count_parameters as count_parameters  # trainable parameters
from .encoders import forward_flops as forward_flops  # operations of one forward pass
from .heads import ClassHead as ClassHead  # logits
from .heads import DirichletHead as DirichletHead  # vote concentrations
from .heads import GalaxyModel as GalaxyModel  # an encoder with its head
from .heads import NumberHead as NumberHead  # a number on any scale, in its own units
from .heads import RegressionHead as RegressionHead  # a number in 0..1
from .weights import PACKAGED as PACKAGED  # encoders whose ImageNet weights come from a Python package
from .weights import encoder_for as encoder_for  # the encoder that weights belong to, where they say it
from .weights import imagenet_file as imagenet_file  # the file with an encoder's ImageNet weights
from .weights import load_encoder as load_encoder  # an encoder with the weights asked for
from .weights import weights_identity as weights_identity  # the file that starting weights stand for
