from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from melodygan_core.catalogue.tracks import save
from melodygan_core.config import SPLITS, DatasetConfig
from melodygan_core.dataset import Dataset, splits
from melodygan_core.errors import InputError
from melodygan_core.storage import Artifact, Store
from tests.core.made import assemble, put_features, track

CONFIG = DatasetConfig()
NAMES = [f"t{i:02d}" for i in range(24)]


def put_artists(store: Store, artist_of: dict[str, str]) -> None:
    for name in artist_of:
        if not store.raw_json(name).exists():
            put_features(store, name, segments=1)
    save(store, [track(n, uploader=a) for n, a in artist_of.items()])


def splits_of_artists(store: Store, made: Artifact, artist_of: dict[str, str]) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for row in Dataset(store, made).tracks:
        found.setdefault(artist_of[row["track_id"]], set()).add(row["split"])
    return found


def test_no_artist_is_in_two_splits(store: Store) -> None:
    artist_of = {n: f"Artist {i % 8}" for i, n in enumerate(NAMES)}
    put_artists(store, artist_of)
    made = assemble(store)
    found = splits_of_artists(store, made, artist_of)
    assert {len(s) for s in found.values()} == {1}
    assert set.union(*found.values()) == set(SPLITS)
    data = Dataset(store, made)
    for figures in (made.metrics, vars(data)):
        assert (figures["split_by"], figures["artists_in_several_splits"]) == ("artist", 0)
    assert made.metrics["artists"] == 8
    # 15 % of 24, as near as three tracks per artist allow.
    assert [made.metrics[f"{s}/tracks"] for s in ("test", "validation")] == [3, 3]


def test_with_few_artists_splits_are_by_recording_and_say_so(store: Store) -> None:
    artist_of = {n: f"Artist {i % 2}" for i, n in enumerate(NAMES)}
    put_artists(store, artist_of)
    made = assemble(store)
    assert (made.metrics["split_by"], made.metrics["artists"]) == ("recording", 2)
    several = sum(len(s) > 1 for s in splits_of_artists(store, made, artist_of).values())
    assert made.metrics["artists_in_several_splits"] == several > 0


def test_new_tracks_follow_their_artist_and_old_ones_stay(store: Store) -> None:
    artist_of = {n: f"Artist {i % 8}" for i, n in enumerate(NAMES)}
    early = {n: artist_of[n] for n in NAMES[:16]}
    put_artists(store, early)
    before = splits_of_artists(store, assemble(store), early)
    put_artists(store, artist_of)
    assert splits_of_artists(store, assemble(store), artist_of) == before


def test_splits_that_were_made_by_recording_stay(store: Store) -> None:
    unknown = dict.fromkeys(NAMES[:16], "")
    put_artists(store, unknown)
    before = {r["track_id"]: r["split"] for r in Dataset(store, assemble(store)).tracks}
    # Later the sites name the artists.
    artist_of = {n: f"Artist {i % 8}" for i, n in enumerate(NAMES)}
    put_artists(store, artist_of)
    made = assemble(store)
    after = {r["track_id"]: r["split"] for r in Dataset(store, made).tracks}
    assert before.items() <= after.items()
    assert made.metrics["split_by"] == "artist"
    assert made.metrics["artists_in_several_splits"] > 0
    for name in NAMES[16:]:
        assert after[name] in {after[n] for n in NAMES[:16] if artist_of[n] == artist_of[name]}


def test_an_uploader_and_tags_join_one_artist() -> None:
    found = splits.artists(
        {
            "a": track("a", uploader=" The  Band "),
            "b": track("b", uploader="the band", tags=("album:One",)),
            "c": track("c", tags=("slow", "Album: one")),
            "d": track("d", tags=("artist:The Band",)),
            "e": track("e", tags=("album:Two",)),
            "f": track("f", uploader=" "),
        }
    )
    assert len({found[g] for g in "abcd"}) == 1
    assert found["e"] != found["a"]
    assert "f" not in found


def test_a_large_artist_leaves_no_split_empty() -> None:
    groups = {f"g{i}" for i in range(100)}
    artist_of = {g: "large" if i < 90 else f"a{i}" for i, g in enumerate(sorted(groups))}
    made = splits.assign(groups, {}, artist_of, CONFIG)
    assert made.split_by == "artist"
    assert made.of_group[min(artist_of)] == "train"


def test_where_whole_artists_do_not_fill_the_splits_they_are_by_recording() -> None:
    # Train has one group left, of an artist that nobody may divide.
    groups = {f"g{i}" for i in range(6)}
    known = {"g0": "test", "g1": "test", "g2": "validation"}
    artist_of = {f"g{i}": f"a{i}" for i in range(6)}
    artist_of["g4"] = artist_of["g5"] = artist_of["g0"]
    config = DatasetConfig(min_groups=2)
    artist_of |= {"g6": "b6", "g7": "b7"}
    made = splits.assign(groups | {"g6", "g7"}, known, artist_of, config)
    assert made.split_by == "artist"
    made = splits.assign(groups, known, {g: a for g, a in artist_of.items() if g in groups}, config)
    assert made.split_by == "recording"
    assert known.items() <= made.of_group.items()


@given(
    st.lists(st.integers(0, 11), min_size=6, max_size=60),
    st.lists(st.booleans(), min_size=60, max_size=60),
)
def test_every_group_gets_a_split_and_keeps_it(artist_numbers: list[int], late: list[bool]) -> None:
    artist_of = {f"g{i}": f"a{a}" for i, a in enumerate(artist_numbers) if a}
    groups = {f"g{i}" for i in range(len(artist_numbers))}
    early = {g for i, g in enumerate(sorted(groups)) if not late[i]}
    known: dict[str, str] = {}
    if len(early) >= 6:
        first = splits.assign(early, {}, {g: a for g, a in artist_of.items() if g in early}, CONFIG)
        known = first.of_group
        assert set(known) == early
    made = splits.assign(groups, known, artist_of, CONFIG)
    assert set(made.of_group) == groups
    assert known.items() <= made.of_group.items()
    assert min(list(made.of_group.values()).count(s) for s in SPLITS) >= CONFIG.min_groups
    splits_of = {a: {made.of_group[g] for g, b in artist_of.items() if a == b} for a in artist_of.values()}
    assert made.artists_in_several_splits == sum(len(s) > 1 for s in splits_of.values())
    if made.split_by == "artist" and not known:
        assert made.artists_in_several_splits == 0


def test_too_few_groups_are_an_error() -> None:
    with pytest.raises(InputError, match="at least 6 different tracks"):
        splits.assign({"a", "b", "c"}, {}, {}, CONFIG)
