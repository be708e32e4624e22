"""URL to wav: the asset `raw_wav`."""

from collections.abc import Iterator
from typing import Any

import dagster as dg

from melodygan_core.config import VERSIONS
from melodygan_dagster import reporting, track_scheduling
from melodygan_dagster.partitions import backfill, tracks
from melodygan_dagster.resources import OWNER, Settings, StoreResource, Workers


@dg.asset(
    deps=["catalogue"],
    partitions_def=tracks,
    backfill_policy=backfill,
    group_name="ingest",
    kinds={"wav", "python"},
    owners=[OWNER],
    code_version=VERSIONS["download"],
    check_specs=[reporting.every_track("raw_wav")],
    output_required=False,
    pool="downloads",
)
def raw_wav(
    context: dg.AssetExecutionContext, store: StoreResource, settings: Settings, workers: Workers
) -> Iterator[dg.AssetCheckResult]:
    """The track as 44.1 kHz stereo PCM, downloaded by yt-dlp within limits, with its provenance beside it.

    Nothing is downloaded twice. Permanent failures (404, removed, too long, no audio) are recorded and skipped.
    """
    from melodygan_core import download

    core_store, config = store.open(), settings.download()

    def describe(track: dict[str, Any]) -> dict[str, Any]:
        uri = track.pop("uri")
        return {
            "listen": store.url(uri),
            **reporting.file(core_store, uri, track.pop("sha256"), track),
        }

    keys = track_scheduling.keys_of(context)
    with reporting.one_sentence_errors():
        report = download.fetch(keys, core_store, config, workers.downloads(config))
    yield from reporting.tracks(context, core_store, report, describe)
