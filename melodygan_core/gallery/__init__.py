"""What a person listens to: one page, no network."""

from melodygan_core.gallery.family import Family
from melodygan_core.gallery.render import render

__all__ = ["Family", "render"]
