"""Tombstones: tracks that a person had forgotten, which no source may bring back."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from melodygan_core.errors import InputError
from melodygan_core.storage.store import Store


@dataclass(frozen=True)
class Tombstone:
    """One forgotten track.

    Attributes:
        url_sha256: Of its canonical URL, which is not kept; empty where it was not known any more.
        when: UTC.
    """

    url_sha256: str
    when: str


def url_sha256(url: str) -> str:
    """What a tombstone keeps of a URL."""
    return hashlib.sha256(url.encode()).hexdigest()


def forgotten(store: Store) -> dict[str, Tombstone]:
    """The tombstones by track_id.

    Raises:
        InputError: the file is damaged: to go on would bring back what was forgotten.
    """
    path = store.forgotten()
    if not path.exists():
        return {}
    try:
        return {str(track_id): Tombstone(**stone) for track_id, stone in store.read_json(path).items()}
    except (ValueError, TypeError, AttributeError) as error:
        raise InputError(f"{path} is damaged ({error}): restore it, or forget its tracks once more") from error


def save_forgotten(store: Store, stones: Mapping[str, Tombstone]) -> None:
    """Replaces the tombstones, atomically; the caller holds the catalogue's lock."""
    store.write_json(store.forgotten(), {track_id: asdict(stone) for track_id, stone in sorted(stones.items())})
