"""Parts that several models are made of."""

from melodygan_core.networks.convnext import ConvNeXtBlock
from melodygan_core.networks.critic import Critic, adversarial, feature_matching, hinge

__all__ = ["ConvNeXtBlock", "Critic", "adversarial", "feature_matching", "hinge"]
