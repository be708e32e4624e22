"""One partition a track; the catalogue adds the keys."""

import dagster as dg

TRACKS = "tracks"
tracks = dg.DynamicPartitionsDefinition(name=TRACKS)

# Assets with one partition a track, in the order in which they are made.
PER_TRACK = ("raw_wav", "stems", "features")

# A run carries many tracks: starting one costs seconds, and one model load serves all of them.
TRACKS_PER_RUN = 50
backfill = dg.BackfillPolicy.multi_run(max_partitions_per_run=TRACKS_PER_RUN)
