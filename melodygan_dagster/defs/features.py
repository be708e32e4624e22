"""Stems to log bands, log-mel and MFCC: the asset `features`."""

from collections.abc import Iterator
from typing import Any

import dagster as dg

from melodygan_dagster import reporting, track_scheduling
from melodygan_dagster.partitions import backfill, tracks
from melodygan_dagster.resources import OWNER, Settings, StoreResource, Workers, deployed_settings


def build_asset(code_version: str) -> dg.AssetsDefinition:
    """Returns the asset `features`.

    Args:
        code_version: Identifies the algorithm, its config and the stems that it reads.
    """

    @dg.asset(
        deps=["stems"],
        partitions_def=tracks,
        backfill_policy=backfill,
        group_name="features",
        kinds={"parquet", "torch"},
        owners=[OWNER],
        code_version=code_version,
        check_specs=[reporting.every_track("features")],
        output_required=False,
    )
    def features(
        context: dg.AssetExecutionContext, store: StoreResource, settings: Settings, workers: Workers
    ) -> Iterator[dg.AssetCheckResult]:
        """One row per segment and stem (vocals, instrumental, mix): bands, log-mel, MFCC, levels, usability."""
        from melodygan_core import features as core
        from melodygan_core.audio import plots
        from melodygan_core.config import STEMS
        from melodygan_core.storage.store import sha256_of

        core_store, config = store.open(), settings.features()

        def describe(track: dict[str, Any]) -> dict[str, Any]:
            uri = track.pop("uri")
            with core_store.reading(core_store.at(uri)) as path:
                digest, values = sha256_of(path), core.read(path, ["stem", "log_mel"])
            log_mel = core.values_of(values, config, "log_mel")
            stem_of = values["stem"].to_pylist()
            rows = [log_mel[[i for i, s in enumerate(stem_of) if s == stem]] for stem in STEMS]

            def picture() -> bytes:
                return plots.stems_png(rows, STEMS, config.frame_rate)

            return {
                "log_mel": reporting.image(store, uri.removesuffix(".parquet"), picture),
                "dagster/row_count": track.pop("segments"),
                **reporting.file(core_store, uri, digest, track),
            }

        keys, backend = track_scheduling.keys_of(context), workers.features(config)
        with reporting.one_sentence_errors():
            report = core.extract(keys, core_store, config, settings.separation(), backend)
        yield from reporting.tracks(context, core_store, report, describe)

    return features


@dg.definitions
def defs() -> dg.Definitions:
    """Returns `features` with the deployment's config in its code version."""
    return dg.Definitions(assets=[build_asset(deployed_settings().features_version())])
