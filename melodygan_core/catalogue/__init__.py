"""Sources -> tracks: what a list of URLs, playlists, feeds and folders stands for, as one table."""

from melodygan_core.catalogue.expansion import CatalogueReport, expand, local_path
from melodygan_core.catalogue.forgotten import Tombstone, forgotten, save_forgotten, url_sha256
from melodygan_core.catalogue.sources import Source, read_sources
from melodygan_core.catalogue.tracks import SCHEMA, Track, canonical_url, load, save, track_id

__all__ = [
    "SCHEMA",
    "CatalogueReport",
    "Source",
    "Tombstone",
    "Track",
    "canonical_url",
    "expand",
    "forgotten",
    "load",
    "local_path",
    "read_sources",
    "save",
    "save_forgotten",
    "track_id",
    "url_sha256",
]
