"""Leakage between splits, measured from the store and not from the groups that the splits were made of."""

from __future__ import annotations

from typing import Any

from melodygan_core.audio import fingerprint
from melodygan_core.dataset import groups, index
from melodygan_core.storage import Store, listing

Row = dict[str, Any]

# Key of the saved comparisons; another version of fingerprints is compared again.
NEAR = f"near by {fingerprint.VERSION}"


def sounds_of(store: Store, track_ids: list[str]) -> dict[str, str]:
    """Returns the name of the recording of each track."""
    # From the wav as it is now: the groups that the splits were made of may be older.
    provenance = store.read_jsons([store.raw_json(t) for t in track_ids])
    return {t: index.sound_of(record) for t, record in zip(track_ids, provenance, strict=True)}


def near(store: Store, sounds: dict[str, str], old: dict[str, Row]) -> dict[str, Row]:
    """Returns the near-duplicates of every recording; only new recordings are compared.

    Args:
        store: Holds the fingerprints; recordings without one are not compared.
        sounds: Track to the name of its recording.
        old: The previous result.

    Returns:
        Every compared recording, with the bit errors of its near-duplicates among the earlier ones.
    """
    track_of: dict[str, str] = {}
    for track_id, sound in sounds.items():
        track_of.setdefault(sound, track_id)
    printed = set(listing.names(store.fingerprint("").parent))
    available = [s for s, t in track_of.items() if store.fingerprint(t).name in printed]
    new = [s for s in available if s not in old]
    found = {s: {o: e for o, e in old[s].items() if o in track_of} for s in available if s in old}
    if new:
        prints, _ = groups.fingerprints(store, {track_of[s]: s for s in (*found, *new)})
        # A recording whose fingerprint cannot be read is compared with all others once it can be read again.
        found = {s: others for s, others in found.items() if track_of[s] in prints}
        ordered = [*found, *(s for s in new if track_of[s] in prints)]
        first_new = len(found)
        found |= {s: {} for s in ordered[first_new:]}
        for pair in fingerprint.pairs([prints[track_of[s]] for s in ordered], first_new):
            found[ordered[pair.later]][ordered[pair.earlier]] = pair.bit_error
    return found


def leaks(rows: list[Row], sounds: dict[str, str], near: dict[str, Row]) -> list[Row]:
    """Returns the pairs of tracks in two splits with the same or nearly the same sound, one row each."""
    split = {r["track_id"]: r["split"] for r in rows}
    title = {r["track_id"]: r["title"] for r in rows}
    found: list[tuple[str, str, str]] = []
    first_of: dict[str, str] = {}
    for track_id in split:
        other = first_of.setdefault(sounds[track_id], track_id)
        found.append((other, track_id, "the same sound"))
    found += [
        (first_of[earlier], first_of[later], f"nearly the same sound (bit error {error:.3f})")
        for later, others in near.items()
        for earlier, error in others.items()
    ]
    return [
        {
            "track": b,
            "title": title[b],
            "split": split[b],
            "what": what,
            "other": a,
            "other_title": title[a],
            "other_split": split[a],
        }
        for a, b, what in found
        if split[a] != split[b]
    ]
