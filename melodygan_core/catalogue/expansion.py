"""Sources -> rows: yt-dlp's flat extraction and local audio folders, merged with the earlier catalogue."""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import unquote_to_bytes, urlsplit

from melodygan_core.catalogue.sources import Source, read_sources
from melodygan_core.catalogue.tracks import (
    Track,
    canonical_url,
    forgotten,
    load,
    save,
    track_id,
    url_sha256,
)
from melodygan_core.config import CatalogueConfig
from melodygan_core.errors import InputError, MelodyGANError, storage_errors, storage_reason
from melodygan_core.sandbox import net
from melodygan_core.storage import Store, kinds
from melodygan_core.text import plain_text

_LOG = logging.getLogger(__name__)

AUDIO_SUFFIXES = (".wav", ".flac", ".mp3", ".ogg", ".opus", ".m4a", ".aac", ".aif", ".aiff", ".wma")
# Each worker runs a child process with yt-dlp (about 100 MB, and a core for a second or two).
_WORKERS = 4
# Nobody sorts music deeper; paths that exceed what the system takes are far below.
_MAX_DEPTH = 100


@dataclass(frozen=True)
class CatalogueReport:
    """The result of expanding the sources.

    Attributes:
        tracks: All rows, oldest first.
        new: track_ids of the rows that this expansion added.
        failed_sources: Source as written -> why it failed, in whole or in part; its older rows stay.
        per_source: Source as written -> number of tracks that it lists now.
        forgotten: Number of forgotten tracks that sources still list; they are not added again.
    """

    tracks: list[Track]
    new: list[str]
    failed_sources: dict[str, str] = field(default_factory=dict)
    per_source: dict[str, int] = field(default_factory=dict)
    forgotten: int = 0


@dataclass(frozen=True)
class _Found:
    source: Source
    tracks: tuple[Track, ...] = ()
    reason: str = ""


def local_path(url: str) -> Path:
    """Returns the path of a `file:` URL of the catalogue."""
    return Path(os.fsdecode(unquote_to_bytes(urlsplit(url).path)))


def added_files(store: Store) -> Path:
    """Returns the folder of a local store that holds files which were added as sources."""
    return Path(store.path(kinds.ADDED_FILE, file_id="x").parent.path)


def expand(sources_file: Path, store: Store, config: CatalogueConfig) -> CatalogueReport:
    """Updates the catalogue from the sources; downloads nothing.

    Each track is one row, however many sources list it. Rows are never removed. Rows that no source lists any
    more become `unlisted`; rows of a failed source stay as they are. An unchanged rerun writes nothing.

    Args:
        sources_file: See read_sources.
        store: Holds the catalogue.
        config: Limits.

    Raises:
        InputError: the sources file is wrong. A failed source is reported, not raised.
        StorageError: the catalogue cannot be written.
    """
    sources = read_sources(sources_file)
    try:
        roots = [_resolved(Path(r)) for r in config.allowed_roots] or [_resolved(sources_file.parent)]
        # Files that somebody added in the studio.
        roots += [_resolved(added_files(store))] if store.is_local else []
    except OSError as error:
        raise InputError(f"allowed_roots must be folders, got {error.filename!r} ({error.strerror})") from error

    def expand_one(source: Source) -> _Found:
        try:
            if source.path:
                return _local(source, sources_file.parent, roots, config)
            return _remote(source, store, config)
        except (MelodyGANError, OSError) as error:
            return _Found(source, reason=storage_reason(error) or str(error))

    with ThreadPoolExecutor(_WORKERS) as pool:
        found = list(pool.map(expand_one, sources))
    with storage_errors(), store.lock_for(store.catalogue()):
        before = load(store)
        merged, new = _merge(before, found)
        fresh = set(new)
        tracks = _without_forgotten(store, merged)
        if tracks != before or not store.catalogue().exists():
            save(store, tracks)
    return CatalogueReport(
        tracks=tracks,
        new=[t.track_id for t in tracks if t.track_id in fresh],
        failed_sources={f.source.name: f.reason for f in found if f.reason},
        per_source={f.source.name: len(f.tracks) for f in found},
        forgotten=len(merged) - len(tracks),
    )


def _without_forgotten(store: Store, tracks: Sequence[Track]) -> list[Track]:
    tombstones = forgotten(store)
    # Another version of yt-dlp may name the site differently, which changes the track_id; the URL stays.
    urls = {t.url_sha256 for t in tombstones.values()}
    return [t for t in tracks if t.track_id not in tombstones and url_sha256(t.url) not in urls]


def _track(source: Source, url: str, extractor: str, site_id: str, *, title: str, **known: object) -> Track:
    duration_s = known.get("duration_s")
    return Track(
        track_id=track_id(extractor, site_id, url),
        url=url,
        title=plain_text(title),
        uploader=plain_text(known.get("uploader")),
        licence=source.licence or plain_text(known.get("licence")),
        rights=source.rights,
        tags=source.tags,
        duration_s=float(duration_s) if isinstance(duration_s, int | float) else None,
        source_id=source.source_id,
        first_seen=datetime.now(UTC),
        status="listed",
    )


def _remote(source: Source, store: Store, config: CatalogueConfig) -> _Found:
    job = {
        "task": "expand",
        "url": canonical_url(source.url),
        "max_items": source.max_items or config.max_items,
        "allow_private": config.allow_private,
    }
    with store.scratch(kinds.SCRATCH) as folder:
        # The child writes no audio, only the cache of a JavaScript runtime.
        limits = net.Limits(config.timeout_s, file_bytes=100_000_000)
        entries = net.ask_child(job, limits, folder)["entries"]
    tracks: dict[str, Track] = {}
    refused: list[str] = []
    for entry in entries:
        try:
            url = canonical_url(entry["url"])
        except InputError as error:
            refused.append(str(error))
            continue
        tracks.setdefault(url, _track(source, **entry | {"url": url}))
    if refused:
        _LOG.warning("%s: %d entries refused, such as: %s", source.name, len(refused), refused[0])
    if not tracks:
        return _Found(source, reason=refused[0] if refused else "the source lists no tracks")
    return _Found(source, tuple(tracks.values()))


def _audio_files(path: Path, unreadable: list[str]) -> Iterator[Path]:
    """Yields the audio files below a path in a fixed order; what cannot be read is added to `unreadable`."""
    if path.is_file():
        yield path
        return
    # A list, not recursion: folders may be nested deeper than Python's stack.
    pending = [(path, 0)]
    while pending:
        folder, depth = pending.pop()
        if depth > _MAX_DEPTH:
            unreadable.append(
                f"folders must be nested at most {_MAX_DEPTH} deep, got {_relative_name(folder, path)}"
            )
            continue
        try:
            with os.scandir(folder) as entries:
                inside = sorted((e.name, e.is_dir(follow_symlinks=False)) for e in entries)
        except OSError as error:
            unreadable.append(f"{_relative_name(folder, path)}: {error.strerror}")
            continue
        pending += [(folder / name, depth + 1) for name, is_folder in reversed(inside) if is_folder]
        yield from (folder / n for n, d in inside if not d and Path(n).suffix.lower() in AUDIO_SUFFIXES)


def _relative_name(path: Path, base: Path) -> str:
    """The path below a source as a short text; a name may be no valid text."""
    return repr(plain_text(os.fsencode(path.relative_to(base)).decode("utf-8", "replace"), 60))


def _resolved(path: Path) -> Path:
    """The path without links.

    Raises:
        OSError: a link that points to itself.
    """
    try:
        return path.resolve()
    except RuntimeError as error:
        # Before Python 3.13, pathlib raises RuntimeError for ELOOP.
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path)) from error


def _local(source: Source, base: Path, roots: Sequence[Path], config: CatalogueConfig) -> _Found:
    allowed = ", ".join(str(r) for r in roots)
    try:
        path = (base / source.path).resolve(strict=True)
    except (OSError, RuntimeError) as error:
        raise InputError(f"path must be a file or folder, got {source.path!r} ({error})") from error
    if not any(path.is_relative_to(root) for root in roots):
        raise InputError(f"path must be below {allowed}, got {source.path!r}, which is {path}")
    tracks: dict[str, Track] = {}
    outside: list[str] = []
    unreadable: list[str] = []
    for file in _audio_files(path, unreadable):
        try:
            # A link inside the folder may point out of it, to itself, or nowhere.
            real = _resolved(file)
            is_file = real.is_file()
        except OSError as error:
            unreadable.append(f"{_relative_name(file, path)}: {error.strerror}")
            continue
        if not any(real.is_relative_to(root) for root in roots):
            outside.append(file.name)
        elif not is_file:
            reason = "a link that points to nothing or to itself" if file.is_symlink() else "not a file"
            unreadable.append(f"{_relative_name(file, path)}: {reason}")
        elif len(tracks) < (source.max_items or config.max_items):
            url = real.as_uri()
            tracks.setdefault(url, _track(source, url, "local", real.stem, title=real.stem))
    reasons = [f"{len(outside)} links lead out of {allowed}, such as {outside[0]!r}"] if outside else []
    if unreadable:
        reasons.append(f"{len(unreadable)} files or folders cannot be read, such as {unreadable[0]}")
    if not tracks and not reasons:
        reasons.append("the folder has no audio files")
    return _Found(source, tuple(tracks.values()), "; ".join(reasons))


def _joined(first: Track, second: Track) -> Track:
    # The source of record is the first one that states the rights; `unknown` states nothing.
    record = second if first.rights == "unknown" and second.rights != "unknown" else first
    return replace(
        record,
        title=first.title or second.title,
        uploader=first.uploader or second.uploader,
        licence=record.licence or first.licence or second.licence,
        tags=tuple(dict.fromkeys(first.tags + second.tags)),
        duration_s=first.duration_s if first.duration_s is not None else second.duration_s,
    )


def _merge(before: Sequence[Track], found: Sequence[_Found]) -> tuple[list[Track], list[str]]:
    fresh: dict[str, Track] = {}
    for track in (t for f in found for t in f.tracks):
        fresh[track.url] = _joined(fresh[track.url], track) if track.url in fresh else track
    failed = {f.source.source_id for f in found if f.reason}
    rows: dict[str, Track] = {}
    for old in before:
        now = fresh.pop(old.url, None)
        if now is None:
            rows[old.url] = old if old.source_id in failed else replace(old, status="unlisted")
        elif old.source_id in failed and now.source_id != old.source_id:
            # Its source of record failed. Another source still lists the track, with less information.
            rows[old.url] = replace(old, status="listed")
        else:
            rows[old.url] = replace(
                now,
                track_id=old.track_id,
                first_seen=old.first_seen,
                title=now.title or old.title,
                uploader=now.uploader or old.uploader,
                duration_s=now.duration_s if now.duration_s is not None else old.duration_s,
            )
    return [*rows.values(), *fresh.values()], [t.track_id for t in fresh.values()]
