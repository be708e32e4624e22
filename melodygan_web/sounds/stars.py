"""Which sounds somebody likes: one file of the store, so that stars survive the browser and the server."""

from __future__ import annotations

import time

from melodygan_core.storage import Store
from melodygan_core.storage.kinds import STARS


def read_stars(store: Store) -> set[str]:
    """Ids of the starred sounds.

    Raises:
        DamagedError: the file holds something else.
    """
    return set(_read(store))


def set_star(store: Store, sound_id: str, starred: bool) -> None:
    """Sets or removes the star of a sound.

    Args:
        store: Where stars are kept.
        sound_id: Id of the sound.
        starred: Whether it has a star afterwards.
    """
    path = store.path(STARS)
    with store.lock_for(path):
        stars = _read(store)
        if starred:
            stars.setdefault(sound_id, time.time())
        else:
            stars.pop(sound_id, None)
        store.write_json(path, stars)


def _read(store: Store) -> dict[str, float]:
    path = store.path(STARS)
    return dict(store.read_json(path)) if path.exists() else {}
