"""Wav to stems: the asset `stems`."""

from collections.abc import Iterator
from typing import Any

import dagster as dg

from melodygan_dagster import reporting, track_scheduling
from melodygan_dagster.partitions import backfill, tracks
from melodygan_dagster.resources import OWNER, Settings, StoreResource, Workers, deployed_settings


def build_asset(model_id: str) -> dg.AssetsDefinition:
    """Returns the asset `stems`.

    Args:
        model_id: Identifies the separation model and its settings; the asset's code version.
    """

    @dg.asset(
        deps=["raw_wav"],
        partitions_def=tracks,
        backfill_policy=backfill,
        group_name="ingest",
        kinds={"wav", "onnx"},
        owners=[OWNER],
        code_version=model_id,
        check_specs=[reporting.every_track("stems")],
        output_required=False,
        pool="gpu",
    )
    def stems(
        context: dg.AssetExecutionContext, store: StoreResource, settings: Settings, workers: Workers
    ) -> Iterator[dg.AssetCheckResult]:
        """`vocals.wav` and `instrumental.wav`, which sum to the mix. A worker loads the model once per run.

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

        keys = track_scheduling.keys_of(context)
        with reporting.one_sentence_errors():
            report = separation.separate(keys, core_store, config, workers.separation(config))
        yield from reporting.tracks(context, core_store, report, describe)

    return stems


@dg.definitions
def defs() -> dg.Definitions:
    """Returns `stems` with the deployment's model as its code version."""
    return dg.Definitions(assets=[build_asset(deployed_settings().separation().model_id)])
