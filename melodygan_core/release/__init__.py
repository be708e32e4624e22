"""The portable folder that all uses of trained models take."""

from melodygan_core.release.publish import (
    FILE,
    LIMIT,
    Published,
    Release,
    escape_markdown,
    load,
    name_of,
    publish,
)

__all__ = ["FILE", "LIMIT", "Published", "Release", "escape_markdown", "load", "name_of", "publish"]
