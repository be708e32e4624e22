"""wav -> stems."""

from collections.abc import Iterator
from typing import Any

import dagster as dg

from melodygan_core.config import VERSIONS
from melodygan_dagster import reporting
from melodygan_dagster.partitions import backfill, tracks
from melodygan_dagster.resources import OWNER, Settings, StoreResource


@dg.asset(
    deps=["raw_wav"],
    partitions_def=tracks,
    backfill_policy=backfill,
    group_name="ingest",
    kinds={"wav", "onnx"},
    owners=[OWNER],
    code_version=VERSIONS["separation"],
    output_required=False,
    pool="gpu",
)
def stems(context: dg.AssetExecutionContext, store: StoreResource, settings: Settings) -> Iterator[dg.Output]:
    """`vocals.wav` and `instrumental.wav`, which sum to the mix; one model load serves the whole run.

    The model `centre` is a baseline for machines that cannot download a separation network.
    """
    from melodygan_core import separation

    def describe(track: dict[str, Any]) -> dict[str, Any]:
        uri = track.pop("uri")
        return {
            "listen_vocals": store.url(f"{uri}/vocals.wav"),
            "listen_instrumental": store.url(f"{uri}/instrumental.wav"),
            **reporting.scalars(track),
            "dagster/uri": str(store.open().at(uri)),
        }

    report = separation.separate(context.partition_keys, store.open(), settings.separation())
    yield from reporting.tracks(context, report, describe)
