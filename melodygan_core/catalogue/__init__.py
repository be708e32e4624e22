"""Sources -> tracks: what a list of URLs, playlists, feeds and folders stands for, as one table."""

from melodygan_core.catalogue.expansion import CatalogueReport, expand, local_path
from melodygan_core.catalogue.sources import Source, read_sources
from melodygan_core.catalogue.tracks import SCHEMA, Track, canonical_url, load, track_id

__all__ = [
    "SCHEMA",
    "CatalogueReport",
    "Source",
    "Track",
    "canonical_url",
    "expand",
    "load",
    "local_path",
    "read_sources",
    "track_id",
]
