"""Hostile inputs: a server with raw answers, a canary listener, damaged audio files."""

from __future__ import annotations

import io
import socket
import socketserver
import struct
import subprocess
import sys
import threading
import time
import zipfile
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import soundfile

from melodygan_core.sandbox import ffmpeg

Answer = bytes | Iterable[bytes]


def http(
    body: bytes, *headers: str, status: str = "200 OK", kind: str = "audio/wav", close: bool = True
) -> bytes:
    """Returns an answer with exactly these headers."""
    lines = [f"HTTP/1.1 {status}", f"Content-Type: {kind}", *headers, *(["Connection: close"] * close), "", ""]
    return "\r\n".join(lines).encode() + body


def redirect(location: str) -> bytes:
    return http(b"", f"Location: {location}", "Content-Length: 0", status="302 Found")


@dataclass
class RawSite:
    """A loopback server that sends the raw answer of a path and closes the connection."""

    base_url: str
    answers: dict[str, Answer] = field(default_factory=dict)
    hits: Counter[str] = field(default_factory=Counter)

    @property
    def address(self) -> tuple[str, int]:
        return "127.0.0.1", int(self.base_url.rsplit(":", 1)[1])

    def add(self, path: str, answer: Answer) -> str:
        self.answers[path] = answer
        return self.base_url + path


@contextmanager
def raw_site() -> Iterator[RawSite]:
    site = RawSite("")

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            request = b""
            try:
                while b"\r\n\r\n" not in request:
                    block = self.request.recv(65536)
                    if not block:
                        return
                    request += block
                path = request.split()[1].decode()
                site.hits[path] += 1
                answer = site.answers.get(path, http(b"", "Content-Length: 0", status="404 Not Found"))
                for part in [answer] if isinstance(answer, bytes) else answer:
                    self.request.sendall(part)
            except OSError:
                return

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True
        block_on_close = False

    with Server(("127.0.0.1", 0), Handler) as server:
        site.base_url = f"http://127.0.0.1:{server.server_address[1]}"
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        yield site
        server.shutdown()


@contextmanager
def listening() -> Iterator[tuple[int, list[object]]]:
    """A canary: its port and the connections to it."""
    listener = socket.create_server(("127.0.0.1", 0))
    reached: list[object] = []

    def accept() -> None:
        try:
            while True:
                reached.append(listener.accept()[1])
        except OSError:
            return

    threading.Thread(target=accept, daemon=True).start()
    yield listener.getsockname()[1], reached
    time.sleep(0.1)
    listener.close()


def run_module(name: str, *arguments: str, words: str = "", prefix: Sequence[str] = ()) -> str:
    """Returns the output of `python -m tests.core.<name>`.

    Args:
        name: Of the module.
        arguments: Of the command line.
        words: Its standard input.
        prefix: A command that starts it, such as `unshare`.
    """
    done = subprocess.run(
        [*prefix, sys.executable, "-m", f"tests.core.{name}", *arguments],
        input=words,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        cwd=Path(__file__).parents[2],
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def sine(seconds: float = 2.0, sample_rate: int = 44_100, hz: float = 440.0) -> np.ndarray:
    return 0.5 * np.sin(2 * np.pi * hz * np.arange(round(seconds * sample_rate)) / sample_rate)


def encoded(
    samples: np.ndarray, sample_rate: int = 44_100, format: str = "WAV", subtype: str | None = None
) -> bytes:
    """Returns an audio file of (samples,) or (samples, channels)."""
    file = io.BytesIO()
    soundfile.write(file, samples, sample_rate, format=format, subtype=subtype)
    return file.getvalue()


def converted(folder: Path, name: str, *arguments: str) -> bytes:
    """Returns the output of ffmpeg with these arguments."""
    path = folder / name
    command = [str(ffmpeg.executable()), "-v", "error", "-y", *arguments, str(path)]
    subprocess.run(command, check=True)
    return path.read_bytes()


def patched(wav: bytes, offset: int, layout: str, value: int) -> bytes:
    """Returns a wav with one field of its header overwritten."""
    data = bytearray(wav)
    struct.pack_into(layout, data, offset, value)
    return bytes(data)


def broken_sounds(folder: Path, canary: int) -> dict[str, bytes]:
    """Returns the files of one folder by name, each a second or two, created once.

    Args:
        folder: For what ffmpeg makes; holds `secret.wav`, which the playlists point at.
        canary: Port that others of them point at.
    """
    rng = np.random.default_rng(0)
    mono = sine(2.0) + 0.02 * rng.standard_normal(88_200)
    stereo = np.stack([mono, mono], axis=1)
    wav = encoded(stereo)
    secret = folder / "secret.wav"
    secret.write_bytes(wav)
    source = ("-i", str(secret))
    picture = ("-f", "lavfi", "-i", "testsrc=d=2:s=64x64")
    mp3, m4a = (converted(folder, f"x.{e}", *source) for e in ("mp3", "m4a"))
    flac, ogg = (encoded(stereo, format=f) for f in ("FLAC", "OGG"))
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as packed:
        packed.writestr("notes.txt", "words")
    bad = mono.astype(np.float32)
    bad[1000:1100], bad[1200], bad[1201] = np.nan, np.inf, -np.inf
    header = struct.unpack_from("<I", wav, 40)
    assert header == (len(wav) - 44,), "a plain wav header"
    inner = f"http://127.0.0.1:{canary}/inner.ts"
    return {
        "good.wav": wav,
        "good.flac": flac,
        "truncated.wav": wav[: len(wav) * 3 // 4 + 1],
        "truncated.mp3": mp3[: len(mp3) * 3 // 4],
        "truncated.flac": flac[: len(flac) * 3 // 4],
        "truncated.ogg": ogg[: len(ogg) * 3 // 4],
        "truncated.m4a": m4a[: len(m4a) // 2],
        "header.wav": wav[:44],
        "header.flac": flac[:60],
        "empty.wav": b"",
        "words.wav": b"words, not sound\n" * 99,
        "archive.mp3": archive.getvalue(),
        "polyglot.mp3": mp3 + archive.getvalue(),
        "hls.wav": f"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\n{secret}\n#EXT-X-ENDLIST\n".encode(),
        "hls-net.wav": f"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\n{inner}\n#EXT-X-ENDLIST\n".encode(),
        "concat.wav": f"ffconcat version 1.0\nfile {secret}\n".encode(),
        "list.wav": f"[playlist]\nFile1={inner}\nNumberOfEntries=1\n".encode(),
        "session.wav": f"v=0\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=audio {canary} RTP/AVP 0\n".encode(),
        "video.m4a": converted(folder, "v.mp4", *picture, *source, "-shortest"),
        "silent-film.m4a": converted(folder, "n.mp4", *picture),
        "mono.wav": encoded(mono),
        "eight-channels.wav": encoded(np.stack([mono] * 8, axis=1)),
        "96-khz.wav": encoded(sine(2.0, 96_000), 96_000),
        "8-bit.wav": encoded(mono, subtype="PCM_U8"),
        "not-a-number.wav": encoded(bad, subtype="FLOAT"),
        "too-loud.wav": encoded((20 * mono).astype(np.float32), subtype="FLOAT"),
        "silent.wav": encoded(np.zeros(88_200)),
        "one-second.wav": encoded(sine(1.0)),
        "short.wav": encoded(sine(0.5)),
        "three-hours.flac": converted(
            folder, "h.flac", "-f", "lavfi", "-i", "anullsrc=r=8000:cl=mono", "-t", "10800"
        ),
        "rate-of-44-hz.wav": patched(wav, 24, "<I", 44),
        "rate-of-0-hz.wav": patched(wav, 24, "<I", 0),
        "rate-of-4-ghz.wav": patched(wav, 24, "<I", 4_000_000_000),
        "65535-channels.wav": patched(wav, 22, "<H", 65_535),
        "no-length.wav": patched(patched(wav, 40, "<I", 0xFFFFFFFF), 4, "<I", 0xFFFFFFFF),
        "too-small-a-length.wav": patched(wav, 40, "<I", 1000),
    }
