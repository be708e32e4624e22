"""One page to listen to; it needs no network."""

from melodygan_core.gallery.render import render
from melodygan_core.gallery.sounds import GalleryEntry

__all__ = ["GalleryEntry", "render"]
