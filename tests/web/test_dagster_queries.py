"""The queries that the library sends are valid for the Dagster that is installed."""

from __future__ import annotations

import pytest
from dagster_graphql.schema import create_schema
from graphql import GraphQLSchema, parse, validate

from melodygan_dagster.partitions import PER_TRACK, TRACKS, partition_key, track_of
from melodygan_dagster.private import RANGE_END, RANGE_START
from melodygan_dagster.ui import LOCATION
from melodygan_web import dagster_tracks


@pytest.fixture(scope="module")
def schema() -> GraphQLSchema:
    return create_schema().graphql_schema


@pytest.mark.parametrize("name", ["_LAUNCH", "_KEYS", "_FAILED", "_DELETE"])
def test_queries_are_valid(schema: GraphQLSchema, name: str) -> None:
    assert validate(schema, parse(getattr(dagster_tracks, name))) == []


def test_names_are_those_of_the_code_location() -> None:
    assert dagster_tracks.STAGES == PER_TRACK
    assert dagster_tracks._PARTITIONS == TRACKS
    assert (f"{dagster_tracks._RANGE}_start", f"{dagster_tracks._RANGE}_end") == (RANGE_START, RANGE_END)
    assert dagster_tracks._REPOSITORY["repositoryLocationName"] == LOCATION
    # The last word of a partition key is the track_id, in both packages.
    key = partition_key("local-x-1", "A song")
    assert track_of(key) == key.rpartition(" ")[2] == "local-x-1"
