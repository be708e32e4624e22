"""Acoustic fingerprints: near-duplicates of recordings at any level, codec, start or end.

Chromaprint (acoustid.org) computes about eight 32-bit sub-fingerprints per second. Two recordings are
near-duplicates if few bits differ where they overlap. A copy at another speed or pitch is not found.
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

from melodygan_core.errors import MelodyGANError, TrackError, TransientError
from melodygan_core.sandbox import ffmpeg
from melodygan_core.storage import Store

Print = NDArray[np.uint32]

VERSION = "chromaprint-1"
# 4096 samples at 11025 Hz, a third of them new each time.
PER_SECOND = 11_025 / 1_365
# Measured on 41 orchestral tracks and 14 songs of the demo: copies (mp3 at 64 and 128 kbit/s, ogg, half level,
# cut, padded) differ in at most 0.05 of the bits; different music of this length differs in at least 0.30.
MAX_BIT_ERROR = 0.2
# Below these a fingerprint is not comparable: under 8 s, or nearly constant (a tone, silence).
MIN_LENGTH = 40
MIN_DISTINCT = 32
# Share of the shorter recording: a track and its first half are duplicates, two tracks with one part in common
# are not.
MIN_OVERLAP = 0.5
# Common sub-fingerprints at one offset that make a pair a candidate; different music has none.
MIN_VOTES = 2
# Most earlier recordings per sub-fingerprint: the one of silence is in every track.
MAX_EARLIER = 64
_BATCH = 256
_IGNORED_BITS = np.uint32(10)
_TIMEOUT_S = 600.0


class Pair(NamedTuple):
    """Two near-duplicates.

    Attributes:
        earlier: Index of the first recording.
        later: Index of the second recording.
        bit_error: Share of bits that differ where they overlap; about 0.5 for unrelated recordings.
    """

    earlier: int
    later: int
    bit_error: float


@lru_cache(maxsize=1)
def require_ffmpeg() -> Path:
    """Returns an ffmpeg with the chromaprint muxer: the one on PATH, else the one of imageio-ffmpeg.

    Raises:
        MelodyGANError: neither has it.
    """
    candidates = [ffmpeg.executable()]
    try:
        import imageio_ffmpeg

        candidates.append(Path(imageio_ffmpeg.get_ffmpeg_exe()))
    except (ImportError, RuntimeError):
        pass  # The message below names every candidate.
    for candidate in candidates:
        listing = subprocess.run([str(candidate), "-hide_banner", "-muxers"], capture_output=True, check=False)
        if b" chromaprint " in listing.stdout:
            return candidate
    tried = ", ".join(dict.fromkeys(map(str, candidates)))
    raise MelodyGANError(
        f"no ffmpeg with the chromaprint muxer, only {tried}: install one (Debian's has it), or set "
        "near_duplicates: false under dataset in the config file, to find exact copies only"
    )


def of_wav(path: Path) -> Print:
    """Returns the fingerprint of a local wav: (n,), about 8 per second; empty below 3 s.

    Raises:
        TrackError: ffmpeg cannot read the wav.
        TransientError: the time-out passed.
        MelodyGANError: no ffmpeg has the chromaprint muxer.
    """
    command = [
        str(require_ffmpeg()),
        *("-nostdin", "-hide_banner", "-v", "error", "-threads", "1", "-protocol_whitelist", "file,pipe"),
        *("-f", "wav", "-i", f"file:{path}", "-f", "chromaprint", "-fp_format", "raw", "pipe:1"),
    ]
    try:
        done = subprocess.run(command, capture_output=True, check=False, timeout=_TIMEOUT_S)
    except subprocess.TimeoutExpired as error:
        raise TransientError(f"its fingerprint took longer than {_TIMEOUT_S:g} s") from error
    if done.returncode:
        last = (done.stderr.decode("utf-8", "replace").strip().splitlines() or ["no message"])[-1]
        raise TrackError(f"its fingerprint cannot be computed: {last.replace(str(path), path.name)}")
    return np.frombuffer(done.stdout, dtype="<u4").astype(np.uint32)


def of_track(store: Store, track_id: str, sound: str) -> Print:
    """Returns the fingerprint of the raw wav of a track, computed once and kept in `store.fingerprint`.

    Args:
        store: Holds the wav, or its fingerprint.
        track_id: The track.
        sound: Names the content of the wav; if it changes, the fingerprint is computed again.

    Raises:
        TrackError: the wav is missing or not readable.
    """
    path = store.fingerprint(track_id)
    if path.exists():
        try:
            stored = store.read_json(path)
            if (stored["version"], stored["sound"]) == (VERSION, sound):
                return np.frombuffer(base64.b64decode(stored["fingerprint"], validate=True), dtype="<u4")
        except (ValueError, KeyError, TypeError, binascii.Error):
            pass  # A damaged fingerprint is computed again from the wav.
    if not store.raw_wav(track_id).exists():
        raise TrackError("its raw wav is not in the store")
    with store.reading(store.raw_wav(track_id)) as wav:
        computed = of_wav(wav)
    text = base64.b64encode(computed.astype("<u4").tobytes()).decode()
    store.write_json(path, {"version": VERSION, "sound": sound, "fingerprint": text})
    return computed


def is_comparable(fingerprint: Print) -> bool:
    """Returns whether a fingerprint is long and varied enough; others would match unrelated recordings."""
    return len(fingerprint) >= MIN_LENGTH and len(np.unique(fingerprint)) >= MIN_DISTINCT


def bit_error(one: Print, other: Print, offset: int) -> float:
    """Returns the share of bits that differ where `other`, shifted by `offset`, overlaps `one`.

    Returns:
        0 for equal recordings, about 0.5 for unrelated ones; 1 if the overlap is too short or nearly constant.
    """
    start, stop = max(0, offset), min(len(one), len(other) + offset)
    if stop - start < max(MIN_LENGTH, MIN_OVERLAP * min(len(one), len(other))):
        return 1.0
    a, b = one[start:stop], other[start - offset : stop - offset]
    if min(len(np.unique(a)), len(np.unique(b))) < MIN_DISTINCT:
        return 1.0
    return float(np.bitwise_count(a ^ b).mean() / 32)


class _Index:
    """Inverted index: the distinct sub-fingerprints of every recording, sorted by value and recording.

    For recordings before `first_new` it holds only values whose first bits occur in a new recording, so that a
    few new recordings are compared with thousands without sorting all values.
    """

    def __init__(self, prints: Sequence[Print], first_new: int) -> None:
        self.prints = prints
        wanted = np.zeros(1 << (32 - _IGNORED_BITS), bool)
        for values in prints[first_new:]:
            wanted[values >> _IGNORED_BITS] = True
        keys, positions = [], []
        for number, values in enumerate(prints):
            if is_comparable(values):
                used = np.flatnonzero(wanted[values >> _IGNORED_BITS])
                distinct, first = np.unique(values[used], return_index=True)
                keys.append(distinct.astype(np.uint64) << np.uint64(32) | np.uint64(number))
                positions.append(used[first].astype(np.int32))
        self.keys = np.concatenate(keys) if keys else np.empty(0, np.uint64)
        self.positions = np.concatenate(positions) if positions else np.empty(0, np.int32)
        order = np.argsort(self.keys)
        self.keys, self.positions = self.keys[order], self.positions[order]
        self.recordings = (self.keys & np.uint64(0xFFFFFFFF)).astype(np.int32)

    def votes(self, first: int, stop: int) -> NDArray[np.int64]:
        """Returns (n, 3) of earlier, later, offset with enough votes, most first, for first <= later < stop."""
        queries = np.flatnonzero((self.recordings >= first) & (self.recordings < stop))
        # Postings of the same value in earlier recordings come before the posting of the query.
        begin = np.searchsorted(self.keys, self.keys[queries] >> np.uint64(32) << np.uint64(32))
        count = np.minimum(queries - begin, MAX_EARLIER)
        query = np.repeat(queries, count)
        within = np.arange(len(query)) - np.repeat(np.cumsum(count) - count, count)
        match = np.repeat(begin, count) + within
        # One integer per vote, because rows of integers sort ten times slower; its low 24 bits are the offset.
        pair = (self.recordings[query].astype(np.int64) - first) * len(self.prints) + self.recordings[match]
        offset = self.positions[match].astype(np.int64) - self.positions[query]
        found, votes = np.unique(pair << 24 | (offset + (1 << 23)), return_counts=True)
        found = found[votes >= MIN_VOTES][np.argsort(-votes[votes >= MIN_VOTES], kind="stable")]
        later, earlier = np.divmod(found >> 24, len(self.prints))
        return np.stack([earlier, later + first, (found & ((1 << 24) - 1)) - (1 << 23)], axis=1)


def pairs(prints: Sequence[Print], first_new: int = 0) -> list[Pair]:
    """Returns the pairs of near-duplicates, sorted by the later recording, then by bit error.

    Candidates share sub-fingerprints at one offset, found by an inverted index, so that the time does not grow
    with the square of their number. Each candidate is then decided by its bit error at that offset.

    Args:
        prints: Fingerprints, earliest first; those that are not comparable match nothing.
        first_new: Only pairs whose later recording has at least this index.
    """
    index = _Index(prints, first_new)
    best: dict[tuple[int, int], float] = {}
    for first in range(first_new, len(prints), _BATCH):
        tried: dict[tuple[int, int], int] = {}
        for earlier, later, offset in index.votes(first, min(first + _BATCH, len(prints))).tolist():
            tried[earlier, later] = tried.get((earlier, later), 0) + 1
            if tried[earlier, later] > 3:
                continue
            # A cut between two frames splits the votes between two offsets.
            error = min(bit_error(prints[earlier], prints[later], offset + d) for d in (-1, 0, 1))
            if error <= MAX_BIT_ERROR:
                best[earlier, later] = min(error, best.get((earlier, later), 1.0))
    found = [Pair(earlier, later, error) for (earlier, later), error in best.items()]
    return sorted(found, key=lambda p: (p.later, p.bit_error, p.earlier))
