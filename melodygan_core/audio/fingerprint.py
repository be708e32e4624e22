"""Acoustic fingerprints: which sounds are nearly the same, whatever their level, codec, start or end.

Chromaprint (acoustid.org) turns sound into about eight 32-bit sub-fingerprints a second. Two sounds are nearly
the same when few bits differ where they overlap; a copy at another speed or pitch is not found.
"""

from __future__ import annotations

import base64
import binascii
import subprocess
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from melodygan_core.errors import MelodyGANError, TrackError
from melodygan_core.sandbox import ffmpeg
from melodygan_core.storage.store import Store

Print = NDArray[np.uint32]

VERSION = "chromaprint-1"
# 4096 samples at 11025 Hz, a third of them new each time.
PER_SECOND = 11_025 / 1_365
# Measured on 41 orchestral tracks and 14 songs of the demo: copies (mp3 at 64 and 128 kbit/s, ogg, half level,
# cut, padded) differ in at most 0.05 of the bits, different music of this length in at least 0.30.
MAX_BIT_ERROR = 0.2
# Below these a fingerprint says too little: a sound of under 8 s, or one that hardly changes (a tone, silence).
MIN_LENGTH = 40
MIN_DISTINCT = 32
# Of the shorter sound: a track and its first half are the same sound, two with one bridge in common are not.
MIN_OVERLAP = 0.5
# Sub-fingerprints in common at one offset that make a pair worth comparing; different music has none.
MIN_VOTES = 2
# Most earlier sounds that one sub-fingerprint calls up: that of silence is in every track.
MAX_CALLED = 64
_BATCH = 256
_IGNORED_BITS = np.uint32(10)
_TIMEOUT_S = 600.0


class Pair(NamedTuple):
    """Two sounds that are nearly the same.

    Attributes:
        earlier: Index of the first.
        later: Index of the second.
        bit_error: Share of bits that differ where they overlap; unrelated sounds have about a half.
    """

    earlier: int
    later: int
    bit_error: float


@lru_cache(maxsize=1)
def require_ffmpeg() -> Path:
    """An ffmpeg that makes fingerprints: the one on PATH, else the one that imageio-ffmpeg ships.

    Raises:
        MelodyGANError: neither does.
    """
    candidates = [ffmpeg.executable()]
    try:
        import imageio_ffmpeg

        candidates.append(Path(imageio_ffmpeg.get_ffmpeg_exe()))
    except (ImportError, RuntimeError):
        pass  # The message below names every one that was looked at.
    for candidate in candidates:
        listing = subprocess.run([str(candidate), "-hide_banner", "-muxers"], capture_output=True, check=False)
        if b" chromaprint " in listing.stdout:
            return candidate
    looked = ", ".join(dict.fromkeys(map(str, candidates)))
    raise MelodyGANError(
        f"no ffmpeg with the chromaprint muxer, only {looked}: install one that has it (Debian's has), or set "
        "near_duplicates: false under dataset in the config file, to find exact copies only"
    )


def of_wav(path: Path) -> Print:
    """The fingerprint of a local wav: (n,), about 8 a second; empty below 3 s.

    Raises:
        TrackError: ffmpeg cannot read it.
        MelodyGANError: no ffmpeg can make fingerprints.
    """
    command = [
        str(require_ffmpeg()),
        *("-nostdin", "-hide_banner", "-v", "error", "-threads", "1", "-protocol_whitelist", "file,pipe"),
        *("-f", "wav", "-i", f"file:{path}", "-f", "chromaprint", "-fp_format", "raw", "pipe:1"),
    ]
    try:
        done = subprocess.run(command, capture_output=True, check=False, timeout=_TIMEOUT_S)
    except subprocess.TimeoutExpired as error:
        raise TrackError(f"its fingerprint took longer than {_TIMEOUT_S:g} s") from error
    if done.returncode:
        last = (done.stderr.decode("utf-8", "replace").strip().splitlines() or ["no message"])[-1]
        raise TrackError(f"its fingerprint cannot be made: {last.replace(str(path), path.name)}")
    return np.frombuffer(done.stdout, dtype="<u4").astype(np.uint32)


def of_track(store: Store, track_id: str, sound: str) -> Print:
    """The fingerprint of a track's raw wav, made once and kept in `store.fingerprint`.

    Args:
        store: Has the wav, or a fingerprint of it.
        track_id: Whose.
        sound: A name for the content of the wav; a fingerprint of another content is made anew.

    Raises:
        TrackError: the wav is gone or not readable.
    """
    path = store.fingerprint(track_id)
    if path.exists():
        try:
            stored = store.read_json(path)
            if (stored["version"], stored["sound"]) == (VERSION, sound):
                return np.frombuffer(base64.b64decode(stored["fingerprint"], validate=True), dtype="<u4")
        except (ValueError, KeyError, TypeError, binascii.Error):
            pass  # A damaged one is replaced: it can be made again from the wav.
    if not store.raw_wav(track_id).exists():
        raise TrackError("its raw wav is not in the store")
    with store.reading(store.raw_wav(track_id)) as wav:
        made = of_wav(wav)
    text = base64.b64encode(made.astype("<u4").tobytes()).decode()
    store.write_json(path, {"version": VERSION, "sound": sound, "fingerprint": text})
    return made


def speaks(fingerprint: Print) -> bool:
    """Whether it is long and varied enough to be compared; one that is not would match what it should not."""
    return len(fingerprint) >= MIN_LENGTH and len(np.unique(fingerprint)) >= MIN_DISTINCT


def bit_error(one: Print, other: Print, offset: int) -> float:
    """Share of bits that differ where `other`, moved by `offset`, overlaps `one`.

    Returns:
        0 for equal sound, about 0.5 for unrelated; 1 where the overlap is too short or hardly changes.
    """
    start, stop = max(0, offset), min(len(one), len(other) + offset)
    if stop - start < max(MIN_LENGTH, MIN_OVERLAP * min(len(one), len(other))):
        return 1.0
    here, there = one[start:stop], other[start - offset : stop - offset]
    if min(len(np.unique(here)), len(np.unique(there))) < MIN_DISTINCT:
        return 1.0
    return float(np.bitwise_count(here ^ there).mean() / 32)


class _Index:
    """Distinct sub-fingerprints of every sound, where they first stand, sorted by value and sound.

    Of sounds before `first_new` only those that may be in a later one, by their first bits: a few new sounds
    are found among thousands without sorting all that these consist of.
    """

    def __init__(self, prints: Sequence[Print], first_new: int) -> None:
        self.prints = prints
        wanted = np.zeros(1 << (32 - _IGNORED_BITS), bool)
        for values in prints[first_new:]:
            wanted[values >> _IGNORED_BITS] = True
        keys, places = [], []
        for number, values in enumerate(prints):
            if speaks(values):
                there = np.flatnonzero(wanted[values >> _IGNORED_BITS])
                distinct, place = np.unique(values[there], return_index=True)
                keys.append(distinct.astype(np.uint64) << np.uint64(32) | np.uint64(number))
                places.append(there[place].astype(np.int32))
        self.keys = np.concatenate(keys) if keys else np.empty(0, np.uint64)
        self.places = np.concatenate(places) if places else np.empty(0, np.int32)
        order = np.argsort(self.keys)
        self.keys, self.places = self.keys[order], self.places[order]
        self.sounds = (self.keys & np.uint64(0xFFFFFFFF)).astype(np.int32)

    def votes(self, first: int, stop: int) -> NDArray[np.int64]:
        """(n, 3) of earlier, later, offset with enough votes, most first, for `first` <= later < `stop`."""
        asked = np.flatnonzero((self.sounds >= first) & (self.sounds < stop))
        # All postings of the same value and an earlier sound stand in front of the asking one.
        begin = np.searchsorted(self.keys, self.keys[asked] >> np.uint64(32) << np.uint64(32))
        count = np.minimum(asked - begin, MAX_CALLED)
        asking = np.repeat(asked, count)
        within = np.arange(len(asking)) - np.repeat(np.cumsum(count) - count, count)
        called = np.repeat(begin, count) + within
        # One integer a vote, because rows of integers sort ten times slower: 28 bits of sounds, 24 of offset.
        several = (self.sounds[asking].astype(np.int64) - first) * len(self.prints) + self.sounds[called]
        offset = self.places[called].astype(np.int64) - self.places[asking]
        found, votes = np.unique(several << 24 | (offset + (1 << 23)), return_counts=True)
        found = found[votes >= MIN_VOTES][np.argsort(-votes[votes >= MIN_VOTES], kind="stable")]
        later, earlier = np.divmod(found >> 24, len(self.prints))
        return np.stack([earlier, later + first, (found & ((1 << 24) - 1)) - (1 << 23)], axis=1)


def pairs(prints: Sequence[Print], first_new: int = 0) -> list[Pair]:
    """Which sounds are nearly the same.

    Candidates share sub-fingerprints at one offset (an inverted index, so that the time does not grow with the
    square of their number); each is then judged by its bit error at that offset.

    Args:
        prints: Fingerprints, earliest first; those that do not speak match nothing.
        first_new: Only pairs whose later sound is this one or one after it.

    Returns:
        Sorted by later, then bit error.
    """
    index = _Index(prints, first_new)
    best: dict[tuple[int, int], float] = {}
    for first in range(first_new, len(prints), _BATCH):
        tried: dict[tuple[int, int], int] = {}
        for earlier, later, offset in index.votes(first, min(first + _BATCH, len(prints))).tolist():
            tried[earlier, later] = tried.get((earlier, later), 0) + 1
            if tried[earlier, later] > 3:
                continue
            # A cut between two frames puts half of the votes one beside the best offset.
            error = min(bit_error(prints[earlier], prints[later], offset + d) for d in (-1, 0, 1))
            if error <= MAX_BIT_ERROR:
                best[earlier, later] = min(error, best.get((earlier, later), 1.0))
    found = [Pair(earlier, later, error) for (earlier, later), error in best.items()]
    return sorted(found, key=lambda p: (p.later, p.bit_error, p.earlier))
