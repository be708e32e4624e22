"""What a person listens to: one page, no network."""

from melodygan_core.gallery.render import Family, render

__all__ = ["Family", "render"]
