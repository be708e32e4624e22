"""Network blocks, discriminators and losses that several models share."""

from melodygan_core.networks.convnext import ConvNeXtBlock
from melodygan_core.networks.patch_discriminator import (
    DiscriminatorOutput,
    PatchDiscriminator,
    adv_loss,
    feature_matching,
    hinge,
)

__all__ = [
    "ConvNeXtBlock",
    "DiscriminatorOutput",
    "PatchDiscriminator",
    "adv_loss",
    "feature_matching",
    "hinge",
]
