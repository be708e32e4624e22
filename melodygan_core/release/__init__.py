"""The portable folder of one pipeline: weights, figures, sources and model card."""

from melodygan_core.release.load import Release, load
from melodygan_core.release.manifest import FILE, FORMAT, Manifest
from melodygan_core.release.model_card import escape_markdown
from melodygan_core.release.publish import Published, name_of, publish

__all__ = [
    "FILE",
    "FORMAT",
    "Manifest",
    "Published",
    "Release",
    "escape_markdown",
    "load",
    "name_of",
    "publish",
]
