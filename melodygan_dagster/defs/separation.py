"""wav -> stems."""

from collections.abc import Iterator
from typing import Any

import dagster as dg

from melodygan_dagster import reporting, track_scheduling
from melodygan_dagster.partitions import backfill, tracks
from melodygan_dagster.resources import OWNER, Settings, StoreResource, Workers, deployed_settings


@dg.asset(
    deps=["raw_wav"],
    partitions_def=tracks,
    backfill_policy=backfill,
    group_name="ingest",
    kinds={"wav", "onnx"},
    owners=[OWNER],
    code_version=deployed_settings().separation().model_id,
    check_specs=[reporting.every_track("stems")],
    output_required=False,
    pool="gpu",
)
def stems(
    context: dg.AssetExecutionContext, store: StoreResource, settings: Settings, workers: Workers
) -> Iterator[dg.AssetCheckResult]:
    """`vocals.wav` and `instrumental.wav`, which sum to the mix; a worker loads the model once a run.

    The model `centre` is a baseline for machines that cannot download a separation network.
    """
    from melodygan_core import separation
    from melodygan_core.storage.store import sha256_of

    core_store, config = store.open(), settings.separation()

    def describe(track: dict[str, Any]) -> dict[str, Any]:
        uri = track.pop("uri")
        with core_store.reading(core_store.at(f"{uri}/stems.json")) as listing:
            digest = sha256_of(listing)
        return {
            "listen_vocals": store.url(f"{uri}/vocals.wav"),
            "listen_instrumental": store.url(f"{uri}/instrumental.wav"),
            **reporting.file(core_store, uri, digest, track),
        }

    report = separation.separate(
        track_scheduling.keys_of(context), core_store, config, workers.separation(config)
    )
    yield from reporting.tracks(context, report, describe)
