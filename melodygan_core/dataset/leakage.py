"""Whether a sound is in two splits: from what lies in the store, not from the groups that made the splits."""

from __future__ import annotations

from typing import Any

from melodygan_core.audio import fingerprint
from melodygan_core.dataset import groups, index
from melodygan_core.storage import listing
from melodygan_core.storage.store import Store

Row = dict[str, Any]

# What was compared is kept under this name: another kind of fingerprint is compared anew.
NEAR = f"near by {fingerprint.VERSION}"


def sounds_of(store: Store, track_ids: list[str]) -> dict[str, str]:
    """The sound of each track, by name."""
    # From the sound as it lies there now: the groups that made the splits may be older.
    provenance = store.read_jsons([store.raw_json(t) for t in track_ids])
    return {t: index.sound_of(made) for t, made in zip(track_ids, provenance, strict=True)}


def near(store: Store, sounds: dict[str, str], old: dict[str, Row]) -> dict[str, Row]:
    """Which sounds are nearly the same; only those are compared that were not before.

    Args:
        store: Has the fingerprints; sounds without one are not compared.
        sounds: Track to sound.
        old: What this returned last.

    Returns:
        Every sound that was compared with all others, to the bit errors of those that it is near to.
    """
    track_of: dict[str, str] = {}
    for track_id, sound in sounds.items():
        track_of.setdefault(sound, track_id)
    printed = set(listing.names(store.fingerprint("").parent))
    there = [s for s, t in track_of.items() if store.fingerprint(t).name in printed]
    new = [s for s in there if s not in old]
    found = {s: {o: e for o, e in old[s].items() if o in track_of} for s in there if s in old}
    if new:
        made, _ = groups.prints(store, {track_of[s]: s for s in (*found, *new)})
        # One whose fingerprint cannot be read is compared with all when it can be again.
        found = {s: others for s, others in found.items() if track_of[s] in made}
        ordered = [*found, *(s for s in new if track_of[s] in made)]
        first_new = len(found)
        found |= {s: {} for s in ordered[first_new:]}
        for pair in fingerprint.pairs([made[track_of[s]] for s in ordered], first_new):
            found[ordered[pair.later]][ordered[pair.earlier]] = pair.bit_error
    return found


def leaks(rows: list[Row], sounds: dict[str, str], near: dict[str, Row]) -> list[Row]:
    """Pairs of tracks in two splits with the same or nearly the same sound, one row each."""
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
