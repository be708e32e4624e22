"""Fixtures that every test may use: a store, and a site on loopback that does as it is told."""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from melodygan_core.audio import write_wav
from melodygan_core.config import (
    DenseAutoencoderConfig,
    DenseConfig,
    DenseGanConfig,
    EvaluationConfig,
    GenerationConfig,
    OptimizerConfig,
    TemporalAutoencoderConfig,
    TemporalConfig,
    TemporalGanConfig,
    VocoderConfig,
)
from melodygan_core.config.presets import PRESETS
from melodygan_core.storage.store import Store

# The demo's ingest and features with models that train in seconds; it is set before anything imports the code
# location, whose training assets take their defaults from the deployment's preset.
PRESET = "test"
PRESETS[PRESET] = replace(
    PRESETS["demo"],
    vocoder=VocoderConfig(
        width=24,
        blocks=1,
        crop_frames=32,
        disc_channels=2,
        disc_start=0.75,
        optimizer=OptimizerConfig(
            max_steps=40, batch_size=4, learning_rate=2e-3, warmup_steps=5, eval_every=10
        ),
    ),
    dense=DenseConfig(
        DenseAutoencoderConfig(
            hidden_sizes=(64, 16), optimizer=OptimizerConfig(max_steps=40, batch_size=32, eval_every=20)
        ),
        DenseGanConfig(
            noise_dim=32,
            hidden_size=128,
            layers=2,
            # Two validations, both late: the earliest one is near enough by KAD and has too little diversity.
            optimizer=OptimizerConfig(
                max_steps=400, batch_size=64, learning_rate=5e-4, eval_every=200, weight_decay=0.0
            ),
        ),
    ),
    temporal=TemporalConfig(
        TemporalAutoencoderConfig(
            width=48,
            blocks=1,
            latent_dim=16,
            crop_tokens=16,
            optimizer=OptimizerConfig(
                max_steps=120, batch_size=8, learning_rate=3e-3, warmup_steps=10, eval_every=40
            ),
        ),
        TemporalGanConfig(
            patch_tokens=8,
            style_dim=16,
            global_dim=16,
            width=16,
            ema_decay=0.95,
            optimizer=OptimizerConfig(
                max_steps=120,
                batch_size=16,
                learning_rate=1e-3,
                warmup_steps=5,
                eval_every=40,
                weight_decay=0.0,
            ),
        ),
    ),
    generation=GenerationConfig(count=2, duration_s=2.0),
    evaluation=EvaluationConfig(windows_s=(2.0,), neighbours=2, generated_count=4, bootstrap=20),
)
os.environ["MELODYGAN_PRESET"] = PRESET
# Read when torch is loaded, here and in whatever a test starts. Tests run side by side, a process a core:
# threads that wait for each other on busy cores cost ten times what they bring.
os.environ.setdefault("OMP_NUM_THREADS", "1")

if TYPE_CHECKING:
    from tests.core.made import Family


@dataclass
class Page:
    """What one path answers.

    Attributes:
        body: Sent whole, with its length, unless `endless`.
        status: One a request, in order; the last one goes on.
        endless: Repeat the body for ever, without a length.
        pause_s: Wait before each piece of an endless body.
    """

    body: bytes = b""
    content_type: str = "audio/wav"
    status: tuple[int, ...] = (200,)
    headers: dict[str, str] = field(default_factory=dict)
    endless: bool = False
    pause_s: float = 0.0


@dataclass
class Site:
    """A loopback server; `hits` counts the requests of each path."""

    base_url: str
    pages: dict[str, Page] = field(default_factory=dict)
    hits: Counter[str] = field(default_factory=Counter)

    def add(self, path: str, body: bytes = b"", **more: Any) -> str:
        """Sets what a path answers, and returns its URL."""
        self.pages[path] = Page(body, **more)
        return self.base_url + path


class _Handler(BaseHTTPRequestHandler):
    site: Site

    def do_GET(self) -> None:
        path = self.path
        page = self.site.pages.get(path, Page(status=(404,)))
        status = page.status[min(self.site.hits[path], len(page.status) - 1)]
        self.site.hits[path] += 1
        try:
            self.send_response(status)
            body = page.body if status == 200 else b""
            for name, value in ({"Content-Type": page.content_type} | page.headers).items():
                self.send_header(name, value)
            if not page.endless:
                self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
            while page.endless:
                time.sleep(page.pause_s)
                self.wfile.write(body)
        except OSError:
            self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture(scope="session", autouse=True)
def _scratch(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What the tests leave in the temporary folder, and what they kill, lies with what pytest cleans up."""
    with pytest.MonkeyPatch.context() as patch:
        # The names of Ray's sockets are long already.
        patch.setenv("RAY_TMPDIR", tempfile.gettempdir())
        patch.setenv("TMPDIR", str(tmp_path_factory.mktemp("tmp")))
        patch.setattr(tempfile, "tempdir", None)
        yield


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "store"))


@contextmanager
def serving() -> Iterator[Site]:
    """A site for as long as the block lasts."""
    made = Site("")
    with ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"site": made})) as server:
        server.daemon_threads = True
        made.base_url = f"http://127.0.0.1:{server.server_address[1]}"
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        yield made
        server.shutdown()


@pytest.fixture
def site() -> Iterator[Site]:
    with serving() as made:
        yield made


@pytest.fixture
def tone(tmp_path: Path) -> bytes:
    """A wav file: 2 s of a 440 Hz sine at half of full scale, 44.1 kHz stereo."""
    t = np.arange(2 * 44_100) / 44_100
    wave = (0.5 * np.sin(2 * np.pi * 440 * t)).astype(np.float32)
    path = tmp_path / "tone.wav"
    write_wav(path, np.stack([wave, wave]), 44_100)
    return path.read_bytes()


@pytest.fixture(scope="session")
def family(tmp_path_factory: pytest.TempPathFactory) -> Family:
    """A dense family on nine made-up tracks; shared, so nobody may change its store."""
    from tests.core.made import make_family

    return make_family(Store(str(tmp_path_factory.mktemp("family") / "store")))


@pytest.fixture(scope="session")
def temporal_family(family: Family, tmp_path_factory: pytest.TempPathFactory) -> Family:
    """A temporal family beside it, in a store of its own; shared, so nobody may change its store."""
    from tests.core.made import make_temporal

    root = tmp_path_factory.mktemp("temporal") / "store"
    shutil.copytree(family.store.root, root)
    return make_temporal(family, Store(str(root)))


@pytest.fixture
def own_family(family: Family, tmp_path: Path) -> Family:
    """A copy of it that a test may change."""
    return copied(family, tmp_path / "family")


@pytest.fixture
def own_temporal(temporal_family: Family, tmp_path: Path) -> Family:
    """A copy of the temporal one that a test may change."""
    return copied(temporal_family, tmp_path / "temporal")


def copied(family: Family, root: Path) -> Family:
    shutil.copytree(family.store.root, root)
    return replace(family, store=Store(str(root)))


# Files that take minutes: they begin first, so that no core waits for them at the end.
LONG = (
    "test_daemon.py",
    "test_several_processes.py",
    "test_pipeline.py",
    "test_ray.py",
    "test_remote_stores.py",
    "test_kills.py",
    "test_runner.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Puts the longest files first."""
    order = {name: place for place, name in enumerate(LONG)}
    items.sort(key=lambda item: order.get(item.path.name, len(LONG)))
