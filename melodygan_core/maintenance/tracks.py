"""Tracks as users name them, and the permanent failures that a user may have tried again."""

from __future__ import annotations

import re
from collections.abc import Sequence

from melodygan_core import catalogue
from melodygan_core.errors import InputError
from melodygan_core.storage import Store, listing
from melodygan_core.storage.kinds import RAW_ERROR, parse


def resolve(store: Store, names: Sequence[str]) -> list[str]:
    """The track_ids that names stand for, each once.

    Args:
        store: Whose tracks.
        names: track_ids, also with the title before them as in the Dagster UI; or URLs as a source lists them.

    Raises:
        InputError: a name is of no track that is or was in the store.
    """
    tracks, tombstones = catalogue.load(store), catalogue.forgotten(store)
    ids = {t.track_id for t in tracks} | set(tombstones)
    urls = {catalogue.url_sha256(t.url): t.track_id for t in tracks}
    urls |= {t.url_sha256: track_id for track_id, t in tombstones.items() if t.url_sha256}
    found = []
    for name in names:
        url = catalogue.canonical_url(name) if re.match("https?:", name, re.IGNORECASE) else name
        last_word = name.rpartition(" ")[2]
        track_id = last_word if last_word in ids else urls.get(catalogue.url_sha256(url), "")
        if not track_id and re.fullmatch(r"[A-Za-z0-9_-]+", name) and _has_raw(store, name):
            track_id = name
        if not track_id:
            raise InputError(
                f"track must be the track_id or url of one of {len(ids)} tracks, got {name[:200]!r}"
            )
        found.append(track_id)
    return list(dict.fromkeys(found))


def _has_raw(store: Store, track_id: str) -> bool:
    # A lost or damaged catalogue does not list the track.
    return any(
        p.exists() for p in (store.raw_wav(track_id), store.raw_json(track_id), store.raw_error(track_id))
    )


def retry(store: Store, names: Sequence[str]) -> list[str]:
    """Removes the permanent failures of tracks, so that the next run fetches them again.

    Args:
        store: Whose tracks.
        names: track_ids or URLs; all tracks that failed when empty.

    Returns:
        The track_ids.

    Raises:
        InputError: a track has not failed for good.
    """
    uris = (parse(f"{RAW_ERROR.top}/{name}") for name in listing.names(store.base / RAW_ERROR.top))
    failed = sorted(p.track_id for p in uris if p.kind is RAW_ERROR and not p.temporary)
    track_ids = resolve(store, names) if names else failed
    for track_id in track_ids:
        if track_id not in failed:
            allowed = f"one of the {len(failed)} that failed for good"
            raise InputError(f"track must be {allowed}, got {track_id!r}")
        with store.lock_for(store.raw_error(track_id)):
            store.raw_error(track_id).unlink(missing_ok=True)
    return track_ids
