"""One page to listen to; it needs no network."""

from melodygan_core.gallery.entry import GalleryEntry
from melodygan_core.gallery.render import render

__all__ = ["GalleryEntry", "render"]
