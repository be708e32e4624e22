"""Groups of tracks with the same recording; one track of each group is trained on.

A recording is named by the first digits of the hash of its wav, a group by its first recording. Decisions stay
in `store.groups`: the track that represents a group does so as long as it is in the store.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from melodygan_core import parallel
from melodygan_core.audio import fingerprint
from melodygan_core.audio.fingerprint import Print
from melodygan_core.dataset.index import Entry
from melodygan_core.errors import StorageError, storage_reason
from melodygan_core.storage import Store


@dataclass(frozen=True)
class Groups:
    """The groups of the eligible tracks.

    Attributes:
        of_track: Track to group.
        representative: Group to the track that represents it.
        bit_error: Near-duplicate to the bit error between its fingerprint and that of its group.
        not_compared: Track to the reason why it has no fingerprint; only equal files are found for these.
    """

    of_track: dict[str, str]
    representative: dict[str, str]
    bit_error: dict[str, float]
    not_compared: dict[str, str]


def fingerprints(store: Store, sounds: dict[str, str]) -> tuple[dict[str, Print], dict[str, str]]:
    """Returns the fingerprints of tracks; missing ones are computed.

    Args:
        store: Holds the wavs or the fingerprints.
        sounds: Track to the name of its recording.

    Returns:
        Track to fingerprint, and track to the reason of a failure.

    Raises:
        StorageError: the disk is at fault and not a track. Its near-duplicates would get splits of their own,
            which are kept for ever.
    """
    if not sounds:
        return {}, {}
    # Without a suitable ffmpeg no track can succeed: that is raised once, here.
    fingerprint.require_ffmpeg()

    disk: list[str] = []

    def one(track_id: str) -> dict[str, Any]:
        try:
            return {"print": fingerprint.of_track(store, track_id, sounds[track_id])}
        except OSError as error:
            disk.append(storage_reason(error))
            raise

    threads = parallel.Backend("threads", min(8, os.cpu_count() or 1))
    report = parallel.map_tracks("fingerprints", one, list(sounds), threads)
    if any(disk):
        raise StorageError(next(filter(None, disk)))
    return {o.track_id: o.metadata["print"] for o in report.good}, {o.track_id: o.error for o in report.failed}


Decided = dict[str, tuple[str, float]]


def _compare(
    store: Store, known: Sequence[Entry], new: Sequence[Entry], decided: Decided
) -> tuple[Decided, dict[str, str]]:
    """Returns the group and bit error of each new recording with a fingerprint, and the tracks without one."""
    prints, missing = fingerprints(store, {e.track_id: e.group for e in new})
    fresh = [e for e in new if e.track_id in prints]
    found: Decided = {e.group: (e.group, 0.0) for e in fresh}
    if not any(fingerprint.is_comparable(prints[e.track_id]) for e in fresh):
        return found, missing
    known_prints, known_missing = fingerprints(store, {e.track_id: e.group for e in known})
    prints, missing = prints | known_prints, missing | known_missing
    before = [e for e in known if e.track_id in prints]
    ordered = [*before, *fresh]
    for pair in fingerprint.pairs([prints[e.track_id] for e in ordered], len(before)):
        earlier, later = ordered[pair.earlier].group, ordered[pair.later].group
        original = pair.earlier < len(before) or found[earlier][0] == earlier
        # The nearest pair comes first; a copy of a copy is compared with the original only.
        if original and found[later][0] == later:
            group = decided[earlier][0] if pair.earlier < len(before) else earlier
            found[later] = (group, round(pair.bit_error, 4))
    return found, missing


def _representatives(first_of: dict[str, Entry], decided: Decided) -> list[Entry]:
    """Returns the recordings to compare new ones with: the first of each group, or all others without it."""
    return [
        e for s, e in first_of.items() if s in decided and (decided[s][0] == s or decided[s][0] not in first_of)
    ]


def update(store: Store, entries: Sequence[Entry], near: bool) -> Groups:
    """Groups tracks by recording; only recordings that are new are compared.

    Args:
        store: Keeps the decisions.
        entries: The eligible tracks, oldest first.
        near: Whether near-duplicates are one group; otherwise only equal files are.

    Raises:
        MelodyGANError: `near` is set, and no ffmpeg has the chromaprint muxer.
    """
    path = store.groups()
    state = store.read_json(path) if path.exists() else {"sounds": {}, "kept": {}}
    decided: Decided = {s: (g, e) for s, (g, e) in state["sounds"].items()} if near else {}
    missing: dict[str, str] = {}
    if near:
        first_of: dict[str, Entry] = {}
        for entry in entries:
            first_of.setdefault(entry.group, entry)
        new = [e for s, e in first_of.items() if s not in decided]
        found, missing = _compare(store, _representatives(first_of, decided), new, decided)
        decided |= found

    members: dict[str, list[Entry]] = {}
    for entry in entries:
        members.setdefault(decided.get(entry.group, (entry.group, 0.0))[0], []).append(entry)
    representative = dict(state["kept"])
    for group, tracks in members.items():
        if representative.get(group) not in {t.track_id for t in tracks}:
            representative[group] = next((t for t in tracks if t.group == group), tracks[0]).track_id
    after = {"sounds": {**state["sounds"], **{s: list(d) for s, d in decided.items()}}, "kept": representative}
    if after != state:
        store.write_json(path, after)
    return Groups(
        of_track={t.track_id: g for g, tracks in members.items() for t in tracks},
        representative={g: representative[g] for g in members},
        bit_error={
            t.track_id: decided[t.group][1] for g, tracks in members.items() for t in tracks if t.group != g
        },
        not_compared=missing,
    )
