"""The partitions of per-track assets: one per track, added by the catalogue.

A partition key is the title, so that people find the track, a space, and the track_id, which has no space. It
is given once and stays, also when the title changes; keys of version 0.1 are the track_id alone.
"""

import re
from collections.abc import Iterable

import dagster as dg

TRACKS = "tracks"
tracks = dg.DynamicPartitionsDefinition(name=TRACKS)

# The per-track assets, in the order of their dependencies.
PER_TRACK = ("raw_wav", "stems", "features")

# One run covers many tracks: starting a run costs seconds, and all tracks share one loaded model.
TRACKS_PER_RUN = 50
backfill = dg.BackfillPolicy.multi_run(max_partitions_per_run=TRACKS_PER_RUN)

TITLE_LENGTH = 48


def partition_key(track_id: str, title: str) -> str:
    """Returns the key of a new track: letters and digits of its title, and its track_id."""
    words = " ".join(re.findall(r"\w+", title))[:TITLE_LENGTH].strip()
    return f"{words} {track_id}".strip()


def track_of(key: str) -> str:
    """Returns the track_id of a partition key."""
    return key.rpartition(" ")[2]


def keys_by_track(keys: Iterable[str]) -> dict[str, str]:
    """Returns track_id to partition key, in the order of the keys."""
    return {track_of(key): key for key in keys}
