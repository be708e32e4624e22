"""Sources -> tracks: a list of URLs, playlists, feeds and folders, expanded into one table."""

from melodygan_core.catalogue.editing import add_source, remove_source
from melodygan_core.catalogue.expansion import CatalogueReport, added_files, expand, local_path
from melodygan_core.catalogue.sources import Source, read_sources
from melodygan_core.catalogue.tracks import (
    SCHEMA,
    Tombstone,
    Track,
    canonical_url,
    forgotten,
    load,
    save,
    save_forgotten,
    track_id,
    url_sha256,
)

__all__ = [
    "SCHEMA",
    "CatalogueReport",
    "Source",
    "Tombstone",
    "Track",
    "add_source",
    "added_files",
    "canonical_url",
    "expand",
    "forgotten",
    "load",
    "local_path",
    "read_sources",
    "remove_source",
    "save",
    "save_forgotten",
    "track_id",
    "url_sha256",
]
