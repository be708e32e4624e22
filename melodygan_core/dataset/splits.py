"""The split of each group of tracks: by artist where enough artists are known, else by recording."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from melodygan_core.catalogue import Track
from melodygan_core.config import SPLITS, DatasetConfig
from melodygan_core.errors import InputError

# Tags of sources.yaml that name an artist or an album, such as `album:Blue Train`.
_TAGS = ("artist:", "album:")


@dataclass(frozen=True)
class Splits:
    """The splits of one version of the dataset.

    Attributes:
        of_group: Group to `train`, `validation` or `test`.
        split_by: `artist`, where all new recordings of an artist go into one split; else `recording`.
        artists: Number of known artists.
        artists_in_several_splits: Number of artists with recordings in more than one split. It is above 0 where
            splits are by recording, and where older splits were.
    """

    of_group: dict[str, str]
    split_by: str
    artists: int
    artists_in_several_splits: int


def artists(tracks: Mapping[str, Track]) -> dict[str, str]:
    """Returns the artist of each group where the catalogue knows one.

    Tracks with the same uploader, or with the same `artist:` or `album:` tag, have one artist.

    Args:
        tracks: Group to the track that represents it.
    """
    name_of: dict[str, str] = {}
    artist_of: dict[str, str] = {}
    for group, track in sorted(tracks.items()):
        tags = [t for t in track.tags if t.casefold().startswith(_TAGS)]
        names = [_normalised(n) for n in (f"artist:{track.uploader}", *tags)]
        names = [n for n in names if not n.endswith(":")]
        if not names:
            continue
        # Every name that was seen with one of these now stands for one artist.
        old = {name_of[n] for n in names if n in name_of}
        artist = min([*old, *names])
        name_of |= dict.fromkeys(names, artist) | {n: artist for n, a in name_of.items() if a in old}
        artist_of |= {g: artist for g, a in artist_of.items() if a in old} | {group: artist}
    return artist_of


def _normalised(name: str) -> str:
    kind, _, rest = name.partition(":")
    return f"{kind.casefold()}:{' '.join(rest.casefold().split())}"


def assign(
    groups: set[str], known: Mapping[str, str], artist_of: Mapping[str, str], config: DatasetConfig
) -> Splits:
    """Assigns a split to every group; a group that has one keeps it.

    New groups of an artist follow the artist's earlier groups. An artist without any goes into one split. With
    fewer than `3 * config.min_groups` artists, or where whole artists do not fill every split, the groups are
    assigned one by one.

    Where test or validation lost groups because tracks were forgotten, and no new groups take their place,
    groups of train do: no model of this dataset has learned from them.

    Args:
        groups: All groups of this version.
        known: Group to split, from earlier versions.
        artist_of: Group to artist, where it is known.
        config: Fractions and the fewest groups per split.

    Raises:
        InputError: too few groups for three splits.
    """
    split_by, split_of = "recording", {}
    if len(set(artist_of.values())) >= 3 * config.min_groups:
        split_by, split_of = "artist", _assign(groups, known, artist_of, config)
    if split_by == "recording" or _too_small(split_of, config):
        split_by, split_of = "recording", _assign(groups, known, {}, config)
    for split in _too_small(split_of, config):
        raise InputError(
            f"{split} has {_count(split_of, split)} groups of tracks, of {len(groups)} that may be trained on; "
            f"each split needs {config.min_groups}, so at least {3 * config.min_groups} different tracks"
        )
    splits_of: dict[str, set[str]] = {}
    for group, artist in artist_of.items():
        splits_of.setdefault(artist, set()).add(split_of[group])
    several = sum(len(splits) > 1 for splits in splits_of.values())
    return Splits(split_of, split_by, len(splits_of), several)


def _assign(
    groups: set[str], known: Mapping[str, str], artist_of: Mapping[str, str], config: DatasetConfig
) -> dict[str, str]:
    """Assigns whole units: the groups of one artist, or one group where its artist is not known."""
    units: dict[str, list[str]] = {}
    # The order is that of a hash: it does not depend on titles, sources or the order of arrival within a batch.
    for group in sorted(groups, key=lambda g: hashlib.sha256(g.encode()).hexdigest()):
        units.setdefault(artist_of.get(group, group), []).append(group)

    split_of = {g: known[g] for g in groups if g in known}
    new: list[list[str]] = []
    for unit in units.values():
        earlier = Counter(known[g] for g in unit if g in known)
        if earlier:
            # The most frequent split; train where two are equal.
            split = max(SPLITS, key=lambda s: earlier[s])
            split_of |= {g: split for g in unit if g not in known}
        else:
            new.append(unit)
    for split, fraction in (("test", config.test_fraction), ("validation", config.validation_fraction)):
        wanted = max(config.min_groups, round(fraction * len(groups)))
        have = _count(split_of, split)
        if artist_of and split == "test":
            # Beside an artist who is too large for test and validation, the two share the others.
            small = sum(len(unit) for unit in new if len(unit) < 2 * wanted)
            wanted = min(wanted, have + max(config.min_groups, small // 2))
        taken = _take(new, have, wanted, config.min_groups)
        split_of |= {g: split for unit in taken for g in unit}
        new = [unit for unit in new if unit not in taken]
    split_of |= {g: "train" for unit in new for g in unit}

    spare = [unit for unit in units.values() if all(split_of[g] == "train" for g in unit)]
    for split in ("test", "validation"):
        for unit in sorted(spare, key=len):
            enough_left = _count(split_of, "train") - len(unit) >= config.min_groups
            if _count(split_of, split) < config.min_groups and enough_left:
                split_of |= dict.fromkeys(unit, split)
                spare.remove(unit)
    return split_of


def _take(units: list[list[str]], have: int, wanted: int, at_least: int) -> list[list[str]]:
    """Returns the units that bring a split from `have` groups as near to `wanted` as whole units allow."""
    taken: list[list[str]] = []
    for unit in units:
        # A unit that overshoots by more than is missing now is left for train.
        if len(unit) < 2 * (wanted - have):
            taken.append(unit)
            have += len(unit)
    for unit in sorted((u for u in units if u not in taken), key=len):
        if have >= at_least:
            break
        taken.append(unit)
        have += len(unit)
    return taken


def _count(split_of: Mapping[str, str], split: str) -> int:
    return sum(s == split for s in split_of.values())


def _too_small(split_of: Mapping[str, str], config: DatasetConfig) -> list[str]:
    return [s for s in SPLITS if _count(split_of, s) < config.min_groups]
