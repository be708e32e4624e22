"""Network blocks, discriminators and losses that several models share."""

from melodygan_core.networks.convnext import ConvNeXtBlock
from melodygan_core.networks.flow import VALIDATION_TIMES, FlowNetwork, random_times, solve
from melodygan_core.networks.patch_discriminator import (
    DiscriminatorOutput,
    PatchDiscriminator,
    adv_loss,
    feature_matching,
    hinge,
)

__all__ = [
    "VALIDATION_TIMES",
    "ConvNeXtBlock",
    "DiscriminatorOutput",
    "FlowNetwork",
    "PatchDiscriminator",
    "adv_loss",
    "feature_matching",
    "hinge",
    "random_times",
    "solve",
]
