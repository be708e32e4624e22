"""A failed track is reported, and the others continue."""

from __future__ import annotations

import dagster as dg
import pytest
from dagster._core.definitions.data_version import extract_data_provenance_from_entry

from melodygan_core import catalogue
from melodygan_dagster.deployment import Deployment
from melodygan_dagster.partitions import TRACKS, partition_key, track_of
from melodygan_dagster.runner import failure_of
from melodygan_dagster.track_scheduling import RANGE_END, RANGE_START
from tests.conftest import Site
from tests.dagster.conftest import add_feed, execute, write_sources

pytestmark = pytest.mark.slow


def _range(
    definitions: dg.Definitions, instance: dg.DagsterInstance, stage: str, keys: list[str]
) -> dg.ExecuteInProcessResult:
    return execute(definitions, instance, f"{stage}_job", {RANGE_START: keys[0], RANGE_END: keys[-1]})


def _events(instance: dg.DagsterInstance, asset: str) -> list[dg.EventLogRecord]:
    return list(instance.fetch_materializations(dg.AssetKey(asset), limit=100).records)


def _made(record: dg.EventLogRecord) -> dg.AssetMaterialization:
    assert record.asset_materialization is not None
    return record.asset_materialization


def test_good_tracks_are_recorded_and_continue(
    deployment: Deployment,
    instance: dg.DagsterInstance,
    definitions: dg.Definitions,
    site: Site,
    stereo_tones: list[str],
) -> None:
    dead = f"{site.base_url}/dead.wav"
    urls = [stereo_tones[0], dead, *stereo_tones[1:]]
    feed = add_feed(site, urls)
    write_sources(deployment.sources, [feed])
    assert execute(definitions, instance, "catalogue_job").success
    keys = list(instance.get_dynamic_partitions(TRACKS))
    bad = next(t.track_id for t in catalogue.load(deployment.opened) if t.url == dead)
    good = [k for k in keys if track_of(k) != bad]
    titles = {t.track_id: t.title for t in catalogue.load(deployment.opened)}
    # People look for a title in the list of partitions.
    assert set(keys) == {partition_key(t, title) for t, title in titles.items()}
    assert len(good) == 3

    result = _range(definitions, instance, "raw_wav", keys)
    assert not result.success
    [failure] = [e for e in result.all_events if e.is_step_failure]
    user = failure.step_failure_data.user_failure_data
    description = (user.description if user else None) or ""
    assert bad in description and "404" in description
    assert not any(track_of(k) in description for k in good)

    events = _events(instance, "raw_wav")
    assert sorted(str(r.partition_key) for r in events) == sorted(good)
    for record in events:
        materialization = _made(record)
        metadata = materialization.metadata
        # Feeds name their items; the page of a partition begins with the name.
        assert metadata["title"].value == titles[track_of(str(record.partition_key))] != ""
        assert metadata["audio_s"].value == 2.0
        assert isinstance(metadata["compute_s"].value, float)
        assert not metadata.keys() & {"bytes", "duration_s", "seconds"}
        assert int(str(metadata["dagster/size_bytes"].value)) > 44
        assert str(metadata["listen"].value).endswith(f"/raw/{track_of(str(record.partition_key))}.wav")
        version = (materialization.tags or {})["dagster/data_version"]
        assert version == metadata["sha256"].value
        latest = instance.get_latest_data_version_record(
            dg.AssetKey("raw_wav"), partition_key=record.partition_key
        )
        assert latest is not None and latest.storage_id == record.storage_id
        provenance = extract_data_provenance_from_entry(record.event_log_entry)
        assert provenance is not None
        assert provenance.has_input_asset(dg.AssetKey("catalogue"))

    check = result.get_asset_check_evaluations()[0]
    assert check.check_name == "every_track" and not check.passed
    failed = check.metadata["failed"]
    assert isinstance(failed, dg.TableMetadataValue)
    [row] = failed.records
    assert row.data["track"] == bad and row.data["permanent"] is True
    assert row.data["title"] == titles[bad]

    # The next materialization of the catalogue shows it as well.
    assert execute(definitions, instance, "catalogue_job").success
    failed_tracks = _made(_events(instance, "catalogue")[0]).metadata["failed_tracks"]
    assert isinstance(failed_tracks, dg.TableMetadataValue)
    [row] = failed_tracks.records
    assert row.data["track"] == bad and row.data["stage"] == "raw_wav" and "404" in str(row.data["reason"])

    # The next stages process the good ones, range by range.
    position = [track_of(k) for k in keys].index(bad)
    for stage in ("stems", "features"):
        for part in (keys[:position], keys[position + 1 :]):
            if part:
                result = _range(definitions, instance, stage, part)
                assert result.success, failure_of(result)
        events = _events(instance, stage)
        assert sorted(str(r.partition_key) for r in events) == sorted(good)
        assert instance.get_materialized_partitions(dg.AssetKey(stage)) == set(good)
        versions = {(_made(r).tags or {})["dagster/data_version"] for r in events}
        assert len(versions) == len(good)
        provenance = extract_data_provenance_from_entry(events[0].event_log_entry)
        assert provenance is not None
        assert provenance.code_version == definitions.resolve_asset_graph().get(dg.AssetKey(stage)).code_version

    # Requested for all tracks, a stage reports the track that it lacks and keeps the others.
    result = _range(definitions, instance, "stems", keys)
    assert not result.success
    again = _events(instance, "stems")[: len(good)]
    assert all(_made(r).metadata["computed"].value is False for r in again)
    assert {(_made(r).tags or {})["dagster/data_version"] for r in again} == {
        (_made(r).tags or {})["dagster/data_version"] for r in _events(instance, "stems")
    }
