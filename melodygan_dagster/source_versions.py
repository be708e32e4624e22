"""Versions of the external asset `sources`: an unchanged `sources.yaml` leaves the catalogue in sync."""

from __future__ import annotations

import hashlib
from pathlib import Path

import dagster as dg

from melodygan_dagster import private

KEY = dg.AssetKey("sources")


def digest_of(path: Path) -> str:
    """Returns the SHA-256 of the file's content."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def unrecorded(instance: dg.DagsterInstance, path: Path) -> list[dg.AssetMaterialization]:
    """Returns the event that records the file's version, or nothing if the instance's latest event has it.

    The event is a materialization and not an observation. Dagster compares an asset with its external inputs
    by their materializations, unless Dagster itself observes them: with observations the catalogue would be
    out of sync for ever.
    """
    digest = digest_of(path)
    latest = instance.get_latest_materialization_event(KEY)
    if private.data_version_of(latest.asset_materialization if latest else None) == digest[:12]:
        return []
    metadata = {"dagster/uri": str(path), "dagster/size_bytes": path.stat().st_size, "sha256": digest}
    return [dg.AssetMaterialization(KEY, metadata=metadata, tags=private.data_version_tags(digest[:12]))]


def record(instance: dg.DagsterInstance, path: Path) -> None:
    """Records the file's version with the instance, if there is a file and its version is new."""
    if path.is_file():
        for event in unrecorded(instance, path):
            instance.report_runless_asset_event(event)
