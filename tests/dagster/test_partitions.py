"""Partition keys begin with the title and end with the track_id."""

from __future__ import annotations

import dagster as dg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from melodygan_dagster.partitions import TITLE_LENGTH, keys_by_track, partition_key, track_of

TRACK_IDS = st.from_regex(r"[A-Za-z0-9_-]{1,80}", fullmatch=True)


@pytest.mark.parametrize(
    ("title", "key"),
    [
        ("Rainy Day (live)", "Rainy Day live generic-a-1"),
        ("", "generic-a-1"),
        ("🎵 ...", "generic-a-1"),
        ("Köln, 夜", "Köln 夜 generic-a-1"),
    ],
)
def test_a_key_is_title_and_track_id(title: str, key: str) -> None:
    assert partition_key("generic-a-1", title) == key


@pytest.mark.slow
@given(TRACK_IDS, st.text(max_size=200))
def test_any_title_makes_a_key_that_dagster_takes_and_that_names_its_track(track_id: str, title: str) -> None:
    key = partition_key(track_id, title)
    assert track_of(key) == track_id
    assert len(key) <= TITLE_LENGTH + 1 + len(track_id)
    with dg.DagsterInstance.ephemeral() as instance:
        instance.add_dynamic_partitions("tracks", [key])
        assert keys_by_track(instance.get_dynamic_partitions("tracks")) == {track_id: key}


def test_keys_of_version_0_1_are_track_ids() -> None:
    assert keys_by_track(["generic-a-1", "Rain generic-b-2"]) == {
        "generic-a-1": "generic-a-1",
        "generic-b-2": "Rain generic-b-2",
    }
