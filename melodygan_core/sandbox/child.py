"""The guarded child process that runs yt-dlp: `python -m melodygan_core.sandbox.child`, with a job on stdin.

Tasks: `expand` (a URL -> its entries), `download` (a URL -> a file in the working folder), `convert` (ffmpeg).
"""

from __future__ import annotations

import json
import logging
import os
import re
import sys
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from melodygan_core.errors import InputError, TrackError, TransientError, storage_reason
from melodygan_core.sandbox import net
from melodygan_core.text import plain_text

_LOG = logging.getLogger(__name__)
_LOG.addHandler(logging.NullHandler())
_LOG.propagate = False

# Not 403: YouTube answers it for links that have expired.
_PERMANENT_STATUS = frozenset({400, 401, 402, 404, 405, 406, 410, 414, 451})
_LATER = re.compile(r"not a bot|rate.?limit|try again|too many requests|temporar|premieres? in", re.IGNORECASE)
_NEVER = re.compile(
    r"is refused: |did not get any data blocks|no (video|audio) formats|unusual and will be skipped|"
    r"File too large|redirect must lead to",
    re.IGNORECASE,
)
_PAGE_BYTES = 32 << 20
_PROTOCOLS = "[protocol~='^(https?|m3u8|m3u8_native|http_dash_segments)$']"
# Suffixes of yt-dlp's extractors of nested lists; a channel is a list of lists.
_LIST_EXTRACTORS = ("Tab", "Playlist", "Channel", "User", "Album", "Set")


def _options(**more: Any) -> dict[str, Any]:
    return {
        "quiet": True,
        "no_warnings": True,
        "noprogress": True,
        "logger": _LOG,
        "color": "never",
        "proxy": "",
        "cachedir": False,
        "cookiefile": None,
        "usenetrc": False,
        "retries": 0,
        "fragment_retries": 2,
        "extractor_retries": 0,
        "file_access_retries": 0,
        "socket_timeout": 20,
        "enable_file_urls": False,
        "default_search": "error",
        "skip_unavailable_fragments": False,
        # ffmpeg would bypass the guard, so yt-dlp must not find it.
        "ffmpeg_location": "/nonexistent",
        "external_downloader": {"default": "native"},
        "hls_prefer_native": True,
        "fixup": "never",
        "check_formats": False,
        "writesubtitles": False,
        "writethumbnail": False,
        **more,
    }


def _bounded(response: Any) -> Any:
    # Audio is read in blocks, which the progress hook counts. A page is read into memory at once.
    read = response.read

    def bounded(amount: int | None = None) -> bytes:
        if amount is not None and amount >= 0:
            return read(amount)
        blocks: list[bytes] = []
        size = 0
        while block := read(1 << 20):
            size += len(block)
            if size > _PAGE_BYTES:
                raise TrackError(f"its page must have at most {_PAGE_BYTES} bytes, got {size} or more")
            blocks.append(block)
        return b"".join(blocks)

    response.read = bounded
    return response


def _downloader(**more: Any) -> Any:
    from yt_dlp import YoutubeDL

    options: Any = _options(**more)

    class Guarded(YoutubeDL):
        def urlopen(self, req: Any) -> Any:
            net.check_url(req if isinstance(req, str) else getattr(req, "url", None) or req.get_full_url())
            return _bounded(super().urlopen(req))

    return Guarded(options)


def _identity(ydl: Any, url: str) -> tuple[str, str]:
    # It depends on the URL alone, not on the page that links to it: one URL always gets one track_id.
    for key, extractor in ydl._ies.items():
        if key != "Generic" and extractor.suitable(url):
            return key.lower(), str(extractor.get_temp_id(url) or "")
    return "generic", unquote(Path(urlsplit(url).path).stem)


def _track_url(info: dict[str, Any], page_url: str, alone: bool) -> str:
    if info.get("_type") in ("url", "url_transparent"):
        return info["url"]
    media_url = str(info.get("manifest_url") or info.get("url") or "")
    if not alone:
        # Several tracks of one page share the URL of the page; each is identified by its own URL.
        own_url = info.get("webpage_url")
        return own_url if own_url and own_url != page_url else media_url
    if info.get("extractor_key") not in ("Generic", "HTML5MediaEmbed"):
        return info.get("webpage_url") or page_url
    # A query is often a signature that expires, and so is the target of a redirect.
    lasting = media_url.startswith(("http://", "https://")) and not urlsplit(media_url).query
    return media_url if lasting and not info.get("direct") and not info.get("manifest_url") else page_url


def _entry(ydl: Any, info: dict[str, Any], page_url: str, alone: bool) -> dict[str, Any]:
    url = _track_url(info, page_url, alone).partition("#")[0]
    extractor, site_id = _identity(ydl, url)
    # The title of a page does not describe one of its tracks; the file name does.
    in_page = info.get("extractor_key") == "HTML5MediaEmbed" or ("formats" in info and not info.get("direct"))
    title = site_id if extractor == "generic" and in_page else info.get("title")
    duration_s = info.get("duration")
    return {
        "url": url,
        "extractor": extractor,
        "site_id": site_id,
        "title": plain_text(title),
        "uploader": plain_text(info.get("uploader") or info.get("channel") or info.get("artist")),
        "licence": plain_text(info.get("license")),
        "duration_s": float(duration_s) if isinstance(duration_s, int | float) and duration_s > 0 else None,
    }


def expand(job: dict[str, Any]) -> dict[str, Any]:
    """Returns the entries of a page, playlist, channel or feed, without downloading any."""
    most = int(job["max_items"])
    options = {"extract_flat": "in_playlist", "playlistend": most, "lazy_playlist": True}
    with _downloader(skip_download=True, ignore_no_formats_error=True, **options) as ydl:
        entries: list[dict[str, Any]] = []

        def walk(url: str, depth: int) -> None:
            info = ydl.extract_info(url, download=False)
            alone = info.get("_type", "video") not in ("playlist", "multi_video")
            page_url = url if alone else info.get("webpage_url") or url
            for one in [info] if alone else list(info.get("entries") or []):
                if len(entries) >= most:
                    return
                if not one:
                    continue
                if not alone and depth < 2 and str(one.get("ie_key") or "").endswith(_LIST_EXTRACTORS):
                    walk(one["url"], depth + 1)
                else:
                    entries.append(_entry(ydl, one, page_url, alone))

        walk(job["url"], 0)
    return {"entries": entries}


def _check_info(info: dict[str, Any], job: dict[str, Any]) -> None:
    if info.get("playlist") or info.get("playlist_index"):
        raise TrackError("it is a playlist now, not a single track")
    if info.get("is_live") or info.get("live_status") in ("is_live", "is_upcoming"):
        raise TrackError("it must be a finished recording, got a live stream")
    duration_s = info.get("duration")
    if not isinstance(duration_s, int | float):
        return
    if duration_s > job["max_duration_s"]:
        raise TrackError(f"it must last at most {job['max_duration_s']:g} s, got {duration_s:.0f} s")
    if 0 < duration_s < job["min_duration_s"] - 1:
        raise TrackError(f"it must last at least {job['min_duration_s']:g} s, got {duration_s:.1f} s")


def download(job: dict[str, Any]) -> dict[str, Any]:
    """Downloads the best audio of a URL into the working folder, under a fixed name."""
    most = int(job["max_bytes"])

    def accept(info: dict[str, Any], *, incomplete: bool = False) -> None:
        _check_info(info, job)

    def watch(progress: dict[str, Any]) -> None:
        size = max(progress.get("downloaded_bytes") or 0, progress.get("total_bytes") or 0)
        if size > most:
            raise TrackError(f"it must have at most {most} bytes, got {size} or more")

    with _downloader(
        format=f"bestaudio{_PROTOCOLS}/best{_PROTOCOLS}",
        outtmpl={"default": "audio.%(ext)s"},
        noplaylist=True,
        playlistend=2,
        match_filter=accept,
        progress_hooks=[watch],
        overwrites=True,
        continuedl=False,
        updatetime=False,
    ) as ydl:
        info = ydl.extract_info(job["url"])
    files = [f for f in Path.cwd().glob("audio.*") if f.suffix not in (".part", ".ytdl")]
    if info is None or len(files) != 1 or files[0].stat().st_size == 0:
        raise TrackError("nothing was downloaded: an empty file, or no audio")
    return {
        "file": files[0].name,
        "title": plain_text(info.get("title")),
        "uploader": plain_text(info.get("uploader") or info.get("channel") or info.get("artist")),
        "licence": plain_text(info.get("license")),
        "ext": plain_text(info.get("ext"), 20),
    }


def _sentence(error: Exception) -> str:
    text = re.sub(r"^ERROR: |; please report this issue on.*| \(caused by .*", "", str(error), flags=re.DOTALL)
    # The message of requests for an unknown scheme.
    text = re.sub(
        r"No connection adapters were found for (.{1,200}).*",
        r"a redirect must lead to http:// or https://, got \1",
        text,
        flags=re.DOTALL,
    )
    if isinstance(error, ValueError | LookupError | TypeError | AttributeError):
        text = f"yt-dlp could not parse the answer: {type(error).__name__}: {text}"
    return plain_text(text)


def _classify(error: Exception) -> tuple[str, str]:
    from yt_dlp.networking.exceptions import HTTPError, TransportError
    from yt_dlp.utils import ExtractorError

    chain = list(net.causes(error))
    text = _sentence(error)
    known = next((e for e in chain if isinstance(e, TrackError | InputError | TransientError)), None)
    if known is not None:
        return "transient" if isinstance(known, TransientError) else "permanent", plain_text(known)
    # A failure of the disk, not of the site; yt-dlp reports it in the text only.
    full = storage_reason(text) if "unable to write" in text or "unable to open" in text else ""
    status = next((e.status for e in chain if isinstance(e, HTTPError)), None)
    if status is not None and not full:
        return "permanent" if status in _PERMANENT_STATUS else "transient", f"HTTP status {status}: {text}"
    unreached = any(isinstance(e, TransportError | TimeoutError | ConnectionError) for e in chain)
    if full or unreached or _LATER.search(text):
        return "transient", full or text
    if any(isinstance(e, ExtractorError) and e.expected for e in chain) or _NEVER.search(text):
        return "permanent", text
    return "transient", text or type(error).__name__


def main() -> None:
    """Reads the job, sets limits and guard, runs the task, and writes one JSON reply to standard output."""
    job = json.loads(sys.stdin.buffer.read())
    net.apply_limits(net.Limits(**job["limits"]))
    if job["task"] == "convert":
        # No guard: ffmpeg replaces this process and keeps the limits; its list of protocols has no network.
        os.execv(job["command"][0], job["command"])
    # The output of libraries must not mix with the reply.
    reply_fd = os.dup(1)
    os.dup2(2, 1)
    net.guard(allow_private=job["allow_private"], allowed=[(h, p) for h, p in job.get("allowed", [])])
    try:
        reply: dict[str, Any] = {"ok": {"expand": expand, "download": download}[job["task"]](job)}
    except Exception as error:
        kind, reason = _classify(error)
        reply = {"error": kind, "reason": reason}
    with os.fdopen(reply_fd, "w", encoding="utf-8") as file:
        json.dump(reply, file)


if __name__ == "__main__":
    main()
