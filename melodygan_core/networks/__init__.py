"""Parts that several models are made of."""

from melodygan_core.networks.convnext import ConvNeXtBlock
from melodygan_core.networks.patch_discriminator import PatchDiscriminator, adversarial, feature_matching, hinge

__all__ = ["ConvNeXtBlock", "PatchDiscriminator", "adversarial", "feature_matching", "hinge"]
