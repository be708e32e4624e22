"""Which tracks are the same sound. Of each group of them one is trained on, so that no sound is in two splits.

A sound is named by the first digits of its wav's hash; a group by the sound that was there first. What has been
decided stays in `store.groups`: a track that stands for its group does so until it goes.
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
from melodygan_core.storage.store import Store


@dataclass(frozen=True)
class Groups:
    """Tracks by sound.

    Attributes:
        of_track: Track to group.
        kept: Group to the track that stands for it.
        bit_error: Track to how far its sound is from its group's; only where it is another file.
        not_compared: Track to why its fingerprint is not known: equal files only are found.
    """

    of_track: dict[str, str]
    kept: dict[str, str]
    bit_error: dict[str, float]
    not_compared: dict[str, str]


def prints(store: Store, sounds: dict[str, str]) -> tuple[dict[str, Print], dict[str, str]]:
    """Fingerprints of tracks, made where they are missing.

    Args:
        store: Has the wavs or the fingerprints.
        sounds: Track to sound.

    Returns:
        Track to fingerprint, and track to the reason why there is none.
    """
    if not sounds:
        return {}, {}
    # An ffmpeg that cannot do it at all is no fault of a track: that is raised here, once.
    fingerprint.require_ffmpeg()

    def one(track_id: str) -> dict[str, Any]:
        return {"print": fingerprint.of_track(store, track_id, sounds[track_id])}

    threads = parallel.Backend("threads", min(8, os.cpu_count() or 1))
    report = parallel.map_tracks("fingerprints", one, list(sounds), threads)
    return {o.track_id: o.metadata["print"] for o in report.good}, {o.track_id: o.error for o in report.failed}


Decided = dict[str, tuple[str, float]]


def _compare(
    store: Store, known: Sequence[Entry], new: Sequence[Entry], decided: Decided
) -> tuple[Decided, dict[str, str]]:
    """Group and bit error of each new sound that has a fingerprint; and the tracks that have none."""
    made, missing = prints(store, {e.track_id: e.group for e in new})
    fresh = [e for e in new if e.track_id in made]
    found: Decided = {e.group: (e.group, 0.0) for e in fresh}
    if not any(fingerprint.speaks(made[e.track_id]) for e in fresh):
        return found, missing
    older, lost = prints(store, {e.track_id: e.group for e in known})
    made, missing = made | older, missing | lost
    before = [e for e in known if e.track_id in made]
    ordered = [*before, *fresh]
    for pair in fingerprint.pairs([made[e.track_id] for e in ordered], len(before)):
        earlier, later = ordered[pair.earlier].group, ordered[pair.later].group
        original = pair.earlier < len(before) or found[earlier][0] == earlier
        # The nearest comes first; a copy of a copy is compared with the original only.
        if original and found[later][0] == later:
            group = decided[earlier][0] if pair.earlier < len(before) else earlier
            found[later] = (group, round(pair.bit_error, 4))
    return found, missing


def _representatives(first_of: dict[str, Entry], decided: Decided) -> list[Entry]:
    """The sounds that a new one is compared with: of each group the first, or all others once that is gone."""
    return [
        e for s, e in first_of.items() if s in decided and (decided[s][0] == s or decided[s][0] not in first_of)
    ]


def update(store: Store, entries: Sequence[Entry], near: bool) -> Groups:
    """Groups tracks by sound; only sounds that were not compared before are.

    Args:
        store: Keeps what was decided.
        entries: Tracks that may be trained on, in the order in which they came.
        near: Whether sounds that are nearly the same are one group; otherwise only equal files are.

    Raises:
        MelodyGANError: `near`, and no ffmpeg can make fingerprints.
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
    kept = dict(state["kept"])
    for group, tracks in members.items():
        if kept.get(group) not in {t.track_id for t in tracks}:
            kept[group] = next((t for t in tracks if t.group == group), tracks[0]).track_id
    after = {"sounds": {**state["sounds"], **{s: list(d) for s, d in decided.items()}}, "kept": kept}
    if after != state:
        store.write_json(path, after)
    return Groups(
        of_track={t.track_id: g for g, tracks in members.items() for t in tracks},
        kept={g: kept[g] for g in members},
        bit_error={
            t.track_id: decided[t.group][1] for g, tracks in members.items() for t in tracks if t.group != g
        },
        not_compared=missing,
    )
