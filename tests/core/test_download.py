from __future__ import annotations

import dataclasses
import io
import json
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import soundfile

from melodygan_core import download
from melodygan_core.catalogue import Track, track_id
from melodygan_core.catalogue.tracks import save
from melodygan_core.config import DownloadConfig, replace
from melodygan_core.errors import InputError, TrackError
from melodygan_core.sandbox import decoder as decoders
from melodygan_core.sandbox import ffmpeg, net
from melodygan_core.storage.store import Store, sha256_of
from tests.core.hostile import encoded, sine

pytestmark = pytest.mark.slow

if TYPE_CHECKING:
    from tests.conftest import Site

CONFIG = DownloadConfig(allow_private=True, pause_s=0.0, timeout_s=60, attempts=2, max_duration_s=20)


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "_BACKOFF_S", 0.01)


def listed(store: Store, *urls: str, **more: object) -> list[str]:
    """Saves a catalogue of these URLs and returns their track_ids."""
    known = Track("", "", "", "", "", "open", ("t",), None, "s", datetime(2026, 1, 1, tzinfo=UTC), "listed")
    rows = [
        dataclasses.replace(known, track_id=track_id("generic", Path(u).stem, u), url=u, **more)  # type: ignore[arg-type]
        for u in urls
    ]
    save(store, rows)
    return [r.track_id for r in rows]


def test_tracks_are_downloaded_once_with_their_provenance(store: Store, site: Site, tone: bytes) -> None:
    titled = site.add("/x/song%20%C3%A9.wav", tone)
    other = site.add("/y/song%20%C3%A9.wav", encoded(sine(hz=220)))
    title = "../a/b 🎵 <script>"
    ids = listed(store, titled, other, title=title, licence="CC0", uploader="Me")
    # One track twice: two workers take it at the same time, and one of them downloads it.
    report = download.fetch([*ids, ids[0]], store, replace(CONFIG, workers=3))
    assert [o.error for o in report.outcomes] == ["", "", ""]
    # yt-dlp looks at the first bytes, then downloads.
    assert set(site.hits.values()) == {2}
    wav, sample_rate = soundfile.read(str(store.raw_wav(ids[0])), dtype="int16")
    expected, _ = soundfile.read(io.BytesIO(tone), dtype="int16")
    assert sample_rate == 44_100
    assert np.array_equal(wav, expected)

    record = download.provenance(store, ids[0])
    path = Path(str(store.raw_wav(ids[0])))
    assert record["sha256"] == sha256_of(path) != download.provenance(store, ids[1])["sha256"]
    assert (record["bytes"], record["duration_s"]) == (path.stat().st_size, 2.0)
    assert (record["title"], record["licence"], record["tags"]) == (title, "CC0", ["t"])
    assert record["original"] == {"ext": "wav", "codec": "pcm_s16le"}
    assert record["peak_db"] == pytest.approx(-6.02, abs=0.01)
    assert {p.name for p in path.parent.iterdir()} == {f"{i}.{e}" for i in ids for e in ("wav", "json")}

    hits = dict(site.hits)
    again = download.fetch(ids, store, CONFIG)
    assert dict(site.hits) == hits
    assert [o.skipped for o in again.outcomes] == [True, True]
    assert [o.metadata for o in again.outcomes] == [o.metadata for o in report.outcomes[:2]]
    assert again.outcomes[0].metadata["uri"] == f"raw/{ids[0]}.wav"


@pytest.mark.slow
def test_permanent_failures_are_named_recorded_and_not_tried_again(
    store: Store, site: Site, tone: bytes
) -> None:
    secret = Path(store.root).parent / "secret.wav"
    secret.write_bytes(tone)
    playlist = f"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\n{secret}\n#EXT-X-ENDLIST\n".encode()
    urls = {
        site.add("/gone.wav", status=(404,)): "404",
        site.add(
            "/page", b"<!DOCTYPE html><html><body>words</body></html>", content_type="text/html"
        ): "Unsupported",
        site.add("/text.wav", b"these are words, not sound\n" * 99): "no audio",
        site.add("/empty.wav"): "data blocks",
        site.add("/list.wav", playlist): "no audio",
        site.add("/short.wav", encoded(sine(0.3))): "must last 1 to 20 s, got ",
        site.add("/endless.wav", tone, endless=True): "must have at most 3000000 bytes, got ",
    }
    ids = listed(store, *urls)
    config = replace(CONFIG, max_bytes=3_000_000)
    report = download.fetch(ids, store, config)
    for outcome, (url, reason) in zip(report.outcomes, urls.items(), strict=True):
        assert outcome.permanent, outcome
        assert reason in outcome.error
        record = json.loads(store.raw_error(outcome.track_id).read_text())
        assert (record["track_id"], record["url"], record["reason"]) == (outcome.track_id, url, outcome.error)
    assert site.hits["/gone.wav"] == 1
    hits = dict(site.hits)
    again = download.fetch(ids, store, config)
    assert [o.error for o in again.outcomes] == [o.error for o in report.outcomes]
    assert dict(site.hits) == hits
    assert not list((Path(store.root) / "work" / "scratch").iterdir())


def test_a_playlist_cannot_open_files_in_yt_dlp_either(store: Store, site: Site, tone: bytes) -> None:
    secret = Path(store.root).parent / "secret.ts"
    secret.write_bytes(tone)
    playlist = f"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\nfile://{secret}\n#EXT-X-ENDLIST\n".encode()
    url = site.add("/list.wav", playlist, content_type="application/vnd.apple.mpegurl")
    report = download.fetch(listed(store, url), store, CONFIG)
    assert "file:" in report.outcomes[0].error
    assert not store.raw_wav(report.outcomes[0].track_id).exists()


@pytest.mark.slow
def test_transient_failures_are_retried_and_then_reported(store: Store, site: Site, tone: bytes) -> None:
    recovers = site.add("/recovers.wav", tone, status=(503, 200))
    down = site.add("/down.wav", status=(503,))
    refused = "http://127.0.0.1:1/x.wav"
    ids = listed(store, recovers, down, refused)
    good, bad, closed = download.fetch(ids, store, CONFIG).outcomes
    assert good.error == ""
    assert "503" in bad.error
    assert "2 attempts" in bad.error
    assert "refused" in closed.error
    assert [o.permanent for o in (bad, closed)] == [False, False]
    assert site.hits["/down.wav"] == 2
    assert not any(store.raw_error(t).exists() for t in ids)


def test_hls_is_joined_and_bounded_by_the_sum_of_its_segments(store: Store, site: Site, tmp_path: Path) -> None:
    (tmp_path / "in.wav").write_bytes(encoded(sine(6.0)))
    hls = ["-c:a", "aac", "-f", "hls", "-hls_time", "2", "-hls_segment_filename", f"{tmp_path}/%d.ts"]
    command = [ffmpeg.executable(), "-v", "error", "-i", tmp_path / "in.wav", *hls, tmp_path / "list.m3u8"]
    subprocess.run(command, check=True)
    segments = sorted(tmp_path.glob("?.ts"))
    largest = max(s.stat().st_size for s in segments)
    for segment in segments:
        site.add(f"/{segment.name}", segment.read_bytes(), content_type="video/mp2t")
    list_url = site.add("/list.m3u8", (tmp_path / "list.m3u8").read_bytes(), content_type="audio/mpegurl")
    ids = listed(store, list_url)
    config = replace(CONFIG, max_bytes=largest + 1000)
    assert "bytes, got " in download.fetch(ids, store, config).outcomes[0].error
    store.raw_error(ids[0]).unlink()
    outcome = download.fetch(ids, store, CONFIG).outcomes[0]
    assert (len(segments) >= 3, outcome.error) == (True, "")
    assert outcome.metadata["duration_s"] == pytest.approx(6.0, abs=0.1)


@pytest.mark.slow
def test_a_slow_response_ends_at_the_time_out(store: Store, site: Site) -> None:
    ids = listed(store, site.add("/slow.wav", b"RIFF", endless=True, pause_s=0.3))
    outcome = download.fetch(ids, store, replace(CONFIG, timeout_s=4, attempts=1)).outcomes[0]
    assert "longer than 4 s" in outcome.error
    assert (outcome.permanent, site.hits["/slow.wav"] > 0) == (False, True)
    assert outcome.duration_s < 10


def test_a_private_address_opens_no_connection(store: Store, site: Site, tone: bytes) -> None:
    ids = listed(store, site.add("/a.wav", tone))
    outcome = download.fetch(ids, store, replace(CONFIG, allow_private=False)).outcomes[0]
    assert "loopback" in outcome.error
    assert site.hits["/a.wav"] == 0


def test_local_files_of_every_format_become_stereo_pcm(tmp_path: Path, store: Store, site: Site) -> None:
    loud, quiet = sine(), np.zeros(88_200)
    broken = sine().astype(np.float32)
    broken[100:200] = np.nan
    sounds = {
        "mono.wav": encoded(loud),
        "six.flac": encoded(np.stack([loud] * 6, axis=1), format="FLAC"),
        "rate.ogg": encoded(sine(2.0, 22_050), 22_050, format="OGG"),
        "silent.wav": encoded(quiet),
        "nan.wav": encoded(broken, subtype="FLOAT"),
        "words.wav": b"words",
    }
    for name, content in sounds.items():
        (tmp_path / name).write_bytes(content)
    ids = listed(store, *((tmp_path / n).resolve().as_uri() for n in sounds))
    outcomes = dict(zip(sounds, download.fetch(ids, store, CONFIG).outcomes, strict=True))
    assert "no audio" in outcomes.pop("words.wav").error
    for name, outcome in outcomes.items():
        assert outcome.error == "", name
        assert outcome.metadata["duration_s"] == pytest.approx(2.0, abs=0.05), name
        wav, sample_rate = soundfile.read(str(store.raw_wav(outcome.track_id)))
        assert (wav.shape[1], sample_rate) == (2, 44_100)
        assert soundfile.info(str(store.raw_wav(outcome.track_id))).subtype == "PCM_16"
        power = np.abs(np.fft.rfft(wav[:, 0]))
        expected_hz = 0 if name == "silent.wav" else 440
        assert np.argmax(power) * 44_100 / len(wav) == pytest.approx(expected_hz, abs=1), name
    assert outcomes["silent.wav"].metadata["peak_db"] == -120.0
    mono, _ = soundfile.read(str(store.raw_wav(ids[0])), dtype="int16")
    assert np.array_equal(mono[:, 0], mono[:, 1])
    assert np.abs(soundfile.read(str(store.raw_wav(ids[4])))[0]).max() < 0.6
    assert dict(site.hits) == {}


def test_a_file_replaced_by_a_link_is_refused(tmp_path: Path, store: Store, tone: bytes) -> None:
    (tmp_path / "real.wav").write_bytes(tone)
    link = tmp_path.resolve() / "song.wav"
    link.symlink_to("real.wav")
    outcome = download.fetch(listed(store, link.as_uri()), store, CONFIG).outcomes[0]
    assert "link now" in outcome.error


def test_a_playlist_on_disk_cannot_open_other_files(tmp_path: Path, store: Store, tone: bytes) -> None:
    (tmp_path / "secret.wav").write_bytes(tone)
    tricks = {
        "hls.wav": f"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\n{tmp_path}/secret.wav\n#EXT-X-ENDLIST\n",
        "concat.wav": f"ffconcat version 1.0\nfile {tmp_path}/secret.wav\n",
    }
    for name, text in tricks.items():
        (tmp_path / name).write_text(text)
    ids = listed(store, *((tmp_path.resolve() / n).as_uri() for n in tricks))
    assert ["no audio" in o.error for o in download.fetch(ids, store, CONFIG).outcomes] == [True, True]


def test_the_decoder_is_bounded_in_time_and_size(tmp_path: Path, store: Store) -> None:
    (tmp_path / "long.flac").write_bytes(encoded(np.zeros(60 * 8_000), 8_000, format="FLAC"))
    ids = listed(store, (tmp_path / "long.flac").resolve().as_uri())
    outcome = download.fetch(ids, store, CONFIG).outcomes[0]
    assert "must last 1 to 20 s, got " in outcome.error
    assert "got 21.00 s" in outcome.error


def decoder(folder: Path, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Puts a shell script in place of ffmpeg."""
    program = folder / "decoder"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setattr(ffmpeg, "executable", lambda: program)


def test_a_decoder_that_waits_on_a_busy_machine_is_tried_again(
    tmp_path: Path, store: Store, tone: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.wav").write_bytes(tone)
    ids = listed(store, (tmp_path / "a.wav").resolve().as_uri())
    with monkeypatch.context() as patch:
        decoder(tmp_path, "exec sleep 60", patch)
        outcome = download.fetch(ids, store, replace(CONFIG, timeout_s=2)).outcomes[0]
    assert "decoding took longer than 2 s" in outcome.error
    assert not outcome.permanent
    assert not store.raw_error(ids[0]).exists()
    assert download.fetch(ids, store, CONFIG).outcomes[0].error == ""


def test_a_decoder_that_computes_for_ever_is_a_permanent_failure(
    tmp_path: Path, store: Store, tone: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.wav").write_bytes(tone)
    ids = listed(store, (tmp_path / "a.wav").resolve().as_uri())
    # A second of processor time, long before the time-out.
    monkeypatch.setattr(decoders, "_CPU_SHARE", 0.01)
    decoder(tmp_path, "while :; do :; done", monkeypatch)
    outcome = download.fetch(ids, store, CONFIG).outcomes[0]
    assert "more processor time" in outcome.error
    assert outcome.permanent
    assert store.raw_error(ids[0]).exists()


def test_ffmpeg_at_its_processor_limit_differs_from_other_failures(tmp_path: Path) -> None:
    noise = "anoisesrc=r=192000"
    command = [
        str(ffmpeg.executable()),
        "-nostdin",
        "-v",
        "info",
        "-f",
        "lavfi",
        "-i",
        noise,
        "-f",
        "null",
        "-",
    ]
    limits = net.Limits(60, file_bytes=1 << 20, memory_bytes=4 << 30, cpu_s=1)
    status, _, log = net.run_child({"task": "convert", "command": command}, limits, tmp_path)
    error = ffmpeg.failure(status, log)
    assert isinstance(error, TrackError)
    assert "more processor time" in str(error)


def test_unknown_tracks_are_named(store: Store) -> None:
    error = download.fetch(["nobody"], store, CONFIG).outcomes[0].error
    assert "track_id must be one of the 0 of the catalogue, got 'nobody'" in error
    with pytest.raises(InputError, match="nobody"):
        download.provenance(store, "nobody")


@pytest.mark.parametrize(
    ("info", "reason"),
    [
        ({"is_live": True}, "live stream"),
        ({"live_status": "is_upcoming"}, "live stream"),
        ({"duration": 21}, "must last at most 20 s, got 21 s"),
        ({"playlist": "P"}, "playlist"),
    ],
)
def test_the_metadata_of_the_site_is_checked_before_the_download(info: dict[str, object], reason: str) -> None:
    from melodygan_core.sandbox import child

    with pytest.raises(TrackError, match=reason):
        child._check_info(info, {"max_duration_s": 20, "min_duration_s": 1})


def test_refusals_are_found_behind_wrappers() -> None:
    inner = net.AddressError("address 10.0.0.1 is refused")
    outer = RuntimeError("no connection")
    outer.__context__ = OSError("wrapped")
    outer.__context__.__cause__ = inner
    assert list(net.causes(outer)) == [outer, outer.__context__, inner]
