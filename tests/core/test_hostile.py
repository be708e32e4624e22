"""Every kind of bad source beside good ones in one run: the outcome and the message of each."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

import numpy as np
import pytest
import soundfile

from melodygan_core import catalogue, download, features, separation
from melodygan_core.config import CatalogueConfig, DownloadConfig
from melodygan_core.errors import InputError
from melodygan_core.parallel import Outcome, Report
from melodygan_core.storage import Store
from tests.core.hostile import RawSite, broken_sounds, encoded, http, listening, raw_site, sine
from tests.core.made import FEATURE, SEPARATION

pytestmark = pytest.mark.slow

DOWNLOAD = DownloadConfig(
    allow_private=True, pause_s=0, timeout_s=60, attempts=1, workers=3, max_duration_s=60, max_bytes=8_000_000
)
TITLE = "../../a/'b\"; 🎵 <script>alert(1)</script> {0} %(id)s $(id) \u202egnp.exe" + "x" * 65_536

# Outcome and message of each file. `good`: it passes without a message. `report`: it comes through, with a
# remark. `either`: with a remark by some versions of ffmpeg. `never`: refused, and not tried again.
# `later`: tried again.
FILES: dict[str, tuple[str, str]] = {
    "good.wav": ("good", ""),
    "good.flac": ("good", ""),
    "truncated.wav": ("report", "cannot be decoded: cut off, or damaged"),
    "truncated.mp3": ("report", "cut off, or damaged"),
    "truncated.flac": ("report", "the header says 2.0 s, the file has 1.5 s: cut off, or damaged"),
    "truncated.ogg": ("good", ""),
    "truncated.m4a": ("never", "no audio that ffmpeg can read"),
    "header.wav": ("never", "it must last 1 to 60 s, got 0.00 s"),
    "header.flac": ("never", "no audio that ffmpeg can read"),
    "empty.wav": ("never", "empty.wav must have 1 to 8000000 bytes, got 0"),
    "words.wav": ("never", "no audio that ffmpeg can read"),
    "archive.mp3": ("never", "no audio that ffmpeg can read"),
    "polyglot.mp3": ("either", "cut off, or damaged"),
    "hls.wav": ("never", "no audio that ffmpeg can read"),
    "hls-net.wav": ("never", "no audio that ffmpeg can read"),
    "concat.wav": ("never", "must be a sound or video file, got something else, or a playlist"),
    "list.wav": ("never", "must be a sound or video file, got something else, or a playlist"),
    "session.wav": ("never", "must be a sound or video file, got something else, or a playlist"),
    "video.m4a": ("good", ""),
    "silent-film.m4a": ("never", "it has no audio stream"),
    "mono.wav": ("good", ""),
    "eight-channels.wav": ("good", ""),
    "96-khz.wav": ("good", ""),
    "8-bit.wav": ("good", ""),
    "not-a-number.wav": ("report", "204 samples were not finite (NaN, infinite) and are replaced by silence"),
    "too-loud.wav": ("report", "samples were beyond full scale and are clipped"),
    "silent.wav": ("good", ""),
    "one-second.wav": ("good", ""),
    "short.wav": ("never", "it must last 1 to 60 s, got 0.50 s"),
    "three-hours.flac": ("never", "it must last 1 to 60 s, got 61.00 s"),
    "rate-of-44-hz.wav": ("never", "it must last 1 to 60 s, got 61.00 s"),
    "rate-of-0-hz.wav": ("never", "no audio that ffmpeg can read"),
    "rate-of-4-ghz.wav": ("never", "no audio that ffmpeg can read"),
    "65535-channels.wav": ("never", "its channels cannot be mixed to two"),
    "no-length.wav": ("good", ""),
    "too-small-a-length.wav": ("never", "it must last 1 to 60 s, got 0.00 s"),
}

PASSES = ("good", "report", "either")

# Links of a feed. More answers of servers are in test_answers.py, slow ones and retries in test_download.py.
LINKS: dict[str, tuple[str, str]] = {
    "/a/song.wav": ("good", ""),
    "/A/song.wav": ("good", ""),
    "/a/song.wav?" + "long=" * 700: ("good", ""),
    "/gone.wav": ("never", "HTTP status 404"),
    "/refused.wav": ("later", "Connection refused"),
    "/page": ("never", "Unsupported URL"),
    "/too-big.wav": ("later", "more expected"),
    "/gzip-bomb.wav": ("never", "must have at most 8000000 bytes, got "),
}
# URLs without a row: the source or the entry is refused before any request.
REFUSED = {
    "file:///etc/passwd": "must be http:// or https://",
    "ftp://127.0.0.1/x.wav": "must be http:// or https://",
    "ytsearch:x": "must be http:// or https://",
    "data:audio/wav,x": "must be http:// or https://",
    "javascript:alert(1)": "must be http:// or https://",
    "gopher://127.0.0.1/x": "must be http:// or https://",
    "//server/share/x.wav": "must be http:// or https://",
    "http://127.0.0.1/" + "x" * 5000: "must be at most 4096 characters",
    "http://me:secret@127.0.0.1/x": "must be without credentials",
}


@dataclass
class Run:
    """The reports of one run over all inputs."""

    store: Store
    site: RawSite
    canary: list[object]
    listed: catalogue.CatalogueReport
    fetched: Report
    separated: Report
    extracted: Report
    ids: dict[str, str] = field(default_factory=dict)

    def outcome(self, name: str) -> Outcome:
        return next(o for o in self.fetched.outcomes if o.track_id == self.ids[name])


def answers(site: RawSite) -> None:
    tones = (encoded(np.stack([sine(2.0, hz=hz)] * 2, axis=1)) for hz in (220, 330, 550))
    for path, tone in zip(LINKS, tones, strict=False):
        site.add(path, http(tone, f"Content-Length: {len(tone)}"))
    tone = encoded(sine())
    bomb = gzip.compress(bytes(30_000_000), 9)
    for path, answer in {
        "/page": http(b"<html><title>T</title>words</html>", kind="text/html"),
        "/too-big.wav": http(tone, f"Content-Length: {2 * len(tone)}"),
        "/gzip-bomb.wav": http(bomb, "Content-Encoding: gzip", f"Content-Length: {len(bomb)}"),
    }.items():
        site.add(path, answer)


def feed(site: RawSite) -> str:
    urls = ["http://127.0.0.1:1/refused.wav" if p == "/refused.wav" else site.base_url + p for p in LINKS]
    items = "".join(
        f'<item><title>{escape(TITLE)}</title><enclosure url="{escape(u)}" type="audio/wav"/></item>'
        for u in [*urls, *(r for r in REFUSED if not r.startswith("//"))]
    )
    body = f'<rss version="2.0"><channel><title>F</title>{items}</channel></rss>'.encode()
    return site.add("/feed.xml", http(body, kind="application/rss+xml"))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    root = tmp_path_factory.mktemp("hostile").resolve()
    (root / "own").mkdir()
    with raw_site() as site, listening() as (port, reached):
        sounds = broken_sounds(root, port)
        assert sounds.keys() == FILES.keys()
        for name, content in sounds.items():
            (root / "own" / name).write_bytes(content)
        answers(site)
        sources = root / "sources.yaml"
        sources.write_text(f"sources:\n- path: own\n  rights: own\n- url: {feed(site)}\n", "utf-8")
        store = Store(str(root / "store"))
        listed = catalogue.expand(sources, store, CatalogueConfig(allow_private=True, timeout_s=60))
        ids = [t.track_id for t in listed.tracks]
        fetched = download.fetch(ids, store, DOWNLOAD)
        separated = separation.separate([o.track_id for o in fetched.good], store, SEPARATION)
        extracted = features.extract([o.track_id for o in separated.good], store, FEATURE, SEPARATION)
        made = Run(store, site, reached, listed, fetched, separated, extracted)
        for track in listed.tracks:
            name = track.url.removeprefix(site.base_url)
            name = "/refused.wav" if ":1/" in name else name
            made.ids[catalogue.local_path(track.url).name if name.startswith("file:") else name] = (
                track.track_id
            )
        yield made


@pytest.mark.parametrize("name", [*FILES, *LINKS], ids=lambda n: n[:40])
def test_each_input_has_its_outcome_and_reason(run: Run, name: str) -> None:
    kind, phrase = (FILES | LINKS)[name]
    outcome = run.outcome(name)
    if kind in PASSES:
        assert outcome.error == ""
        problems = outcome.metadata["problems"]
        remarked = phrase in " ".join(problems)
        assert remarked or kind != "report", problems
        assert not problems or (remarked and kind != "good"), problems
        assert download.provenance(run.store, outcome.track_id)["problems"] == problems
    else:
        assert phrase in outcome.error
        assert outcome.permanent == (kind == "never")
        assert len(outcome.error) < 400
        assert not run.store.raw_wav(outcome.track_id).exists()
        assert run.store.raw_error(outcome.track_id).exists() == (kind == "never")


def test_good_inputs_pass_every_stage(run: Run) -> None:
    expected = {run.ids[n] for n, (kind, _) in (FILES | LINKS).items() if kind in PASSES}
    assert {o.track_id for o in run.fetched.good} == expected
    assert [o.error for o in (*run.separated.outcomes, *run.extracted.outcomes)] == [""] * 2 * len(expected)
    assert {o.track_id for o in run.extracted.good} == expected
    silent = next(o for o in run.extracted.good if o.track_id == run.ids["silent.wav"])
    assert (silent.metadata["usable_segments"], set(silent.metadata["unusable"])) == (0, {"silent", "short"})
    loud = next(o for o in run.extracted.good if o.track_id == run.ids["too-loud.wav"])
    assert "clipped" in loud.metadata["unusable"]


def test_no_playlist_reached_the_network_or_another_file(run: Run) -> None:
    assert run.canary == []


def test_invalid_links_give_no_row(run: Run) -> None:
    urls = {t.url for t in run.listed.tracks}
    assert len(run.listed.tracks) == len(FILES) + len(LINKS)
    assert not any(u.startswith(tuple(REFUSED)) for u in urls)
    assert run.listed.failed_sources == {}


@pytest.mark.parametrize(("url", "allowed"), REFUSED.items(), ids=lambda t: t[:20])
def test_refused_sources_name_the_line_and_the_allowed_values(tmp_path: Path, url: str, allowed: str) -> None:
    sources = tmp_path / "sources.yaml"
    sources.write_text(f"sources:\n- url: '{url}'\n", "utf-8")
    with pytest.raises(InputError) as caught:
        catalogue.read_sources(sources)
    assert str(caught.value).startswith("sources.yaml, line 2: url")
    assert allowed in str(caught.value)


def test_titles_are_short_lines_of_text_and_name_no_file(run: Run) -> None:
    tracks = {t.track_id: t for t in run.listed.tracks}
    songs = [tracks[run.ids[n]] for n in list(LINKS)[:3]]
    assert len({t.track_id for t in songs}) == 3
    for song in songs:
        assert song.title.startswith("../../a/'b\"; 🎵 <script>alert(1)</script> {0} %(id)s $(id) gnp.exexxx")
        assert len(song.title) == 300
        assert song.track_id.replace("-", "").replace("_", "").isalnum()
    # All files are in the folders of the store.
    made = {p.relative_to(run.store.root).parts[0] for p in Path(run.store.root).rglob("*") if p.is_file()}
    assert made <= {"catalogue.parquet", "raw", "stems", "features", "work"}


@pytest.mark.parametrize(
    ("name", "peak"), [("mono.wav", 0.6), ("eight-channels.wav", 0.6), ("96-khz.wav", 0.5)]
)
def test_the_level_does_not_depend_on_the_channels(run: Run, name: str, peak: float) -> None:
    wav, _ = soundfile.read(str(run.store.raw_wav(run.ids[name])), dtype="int16")
    original, rate = soundfile.read(
        str(Path(run.store.root).parent / "own" / name), dtype="int16", always_2d=True
    )
    assert np.abs(wav).max() == pytest.approx(np.abs(original.astype(int)).max(), rel=2e-3)
    assert np.abs(wav).max() < peak * 32768 + 40
    assert np.array_equal(wav[:, 0], wav[:, 1])
    if rate == 44_100:
        assert np.array_equal(wav[:, 0], original[:, 0])


def test_a_second_run_requests_no_settled_track(run: Run) -> None:
    hits = dict(run.site.hits)
    settled = [o.track_id for o in run.fetched.outcomes if not o.error or o.permanent]
    again = download.fetch(settled, run.store, DOWNLOAD)
    assert dict(run.site.hits) == hits
    before = {o.track_id: o for o in run.fetched.outcomes}
    assert [o.error for o in again.outcomes] == [before[t].error for t in settled]
    assert [o.skipped for o in again.outcomes] == [not before[t].error for t in settled]
    assert list((Path(run.store.root) / "work" / "scratch").iterdir()) == []
