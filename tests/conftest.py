"""Fixtures for all tests: a store, a scripted site on loopback, and pipelines that are trained once."""

from __future__ import annotations

import dataclasses
import os
import pickle
import shutil
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import pytest
from filelock import FileLock
from hypothesis import settings

from melodygan_core.audio import write_wav
from melodygan_core.config import (
    DenseCodecConfig,
    DenseGanConfig,
    EvaluationConfig,
    GenerationConfig,
    OptimizerConfig,
    TemporalCodecConfig,
    TemporalGanConfig,
    VocoderConfig,
    replace,
)
from melodygan_core.config.presets import PRESETS
from melodygan_core.storage import Store
from tests.browser import browser  # noqa: F401 (a fixture of all tests)

# The demo's data stages with models that train in seconds. It is set before anything imports the code location,
# whose training assets have the values of the deployment's preset as defaults.
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
    codecs={
        "dense": DenseCodecConfig(
            hidden_sizes=(64, 16), optimizer=OptimizerConfig(max_steps=40, batch_size=32, eval_every=20)
        ),
        "temporal": TemporalCodecConfig(
            width=48,
            blocks=1,
            latent_dim=16,
            crop_tokens=16,
            optimizer=OptimizerConfig(
                max_steps=120, batch_size=8, learning_rate=3e-3, warmup_steps=10, eval_every=40
            ),
        ),
    },
    priors={
        "dense": {
            "gan": DenseGanConfig(
                noise_dim=32,
                hidden_size=128,
                layers=2,
                # An early validation would have a low KAD and too little diversity.
                optimizer=OptimizerConfig(
                    max_steps=400, batch_size=64, learning_rate=5e-4, eval_every=200, weight_decay=0.0
                ),
            )
        },
        "temporal": {
            "gan": TemporalGanConfig(
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
            )
        },
    },
    generation=GenerationConfig(count=2, duration_s=2.0),
    evaluation=EvaluationConfig(windows_s=(2.0,), neighbours=2, generated_count=4, bootstrap=20, music_s=1.0),
)
os.environ["MELODYGAN_PRESET"] = PRESET
# On a busy machine an example may take any time.
settings.register_profile("tests", deadline=None)
settings.load_profile("tests")
# Torch reads this when it is loaded, here and in the processes that tests start. Tests run in one process per
# core: threads that wait for each other on busy cores take ten times as long as one thread.
os.environ.setdefault("OMP_NUM_THREADS", "1")

if TYPE_CHECKING:
    from tests.core.made import Trained


T = TypeVar("T")


@dataclass
class Page:
    """The responses of one path.

    Attributes:
        body: Sent whole, with its length, unless `endless`.
        content_type: Of the body.
        status: One status per request, in order; the last one repeats.
        headers: More headers.
        endless: Repeat the body for ever, without a length.
        pause_s: Wait in seconds before each repetition of an endless body.
    """

    body: bytes = b""
    content_type: str = "audio/wav"
    status: tuple[int, ...] = (200,)
    headers: dict[str, str] = field(default_factory=dict)
    endless: bool = False
    pause_s: float = 0.0


@dataclass
class Site:
    """A loopback server; `hits` counts the requests per path."""

    base_url: str
    pages: dict[str, Page] = field(default_factory=dict)
    hits: Counter[str] = field(default_factory=Counter)

    def add(self, path: str, body: bytes = b"", **more: Any) -> str:
        """Sets the response of a path and returns its URL."""
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
    """Makes the folder for temporary files one that pytest removes: killed processes leave files there."""
    with pytest.MonkeyPatch.context() as patch:
        # The paths of Ray's sockets have a maximum length.
        patch.setenv("RAY_TMPDIR", tempfile.gettempdir())
        patch.setenv("TMPDIR", str(tmp_path_factory.mktemp("tmp")))
        patch.setattr(tempfile, "tempdir", None)
        yield


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "store"))


@contextmanager
def serving() -> Iterator[Site]:
    """Serves a site until the block ends."""
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


def make_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], T]) -> T:
    """Returns what `make` makes in a new folder; the first worker of a test run makes it, the others read it.

    Args:
        factory: Of the worker's temporary folders.
        name: Of the folder, unique in the test run.
        make: Its result is pickled for the other workers, which must not change the folder.
    """
    base = factory.getbasetemp()
    # The folders of xdist's workers have the folder of the test run as their parent. The parent of the only
    # process's folder would be that of all test runs.
    shared = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "shared"
    shared.mkdir(exist_ok=True)
    result = shared / f"{name}.pickle"
    with FileLock(shared / f"{name}.lock"):
        if not result.exists():
            folder = shared / name
            # Of a worker that was stopped.
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            content = pickle.dumps(make(folder))
            # The last step, so that a result is never half there.
            result.write_bytes(content)
        return pickle.loads(result.read_bytes())


@pytest.fixture(scope="session")
def dense(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """`dense_gan` on nine made-up tracks. All tests and workers share its store, so none may change it."""
    from tests.core.made import make_dense

    return make_once(tmp_path_factory, "dense", lambda folder: make_dense(Store(str(folder / "store"))))


@pytest.fixture(scope="session")
def temporal_trained(dense: Trained, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """`temporal_gan` on the same tracks, in a store of its own. All share it, so none may change it."""
    from tests.core.made import make_temporal

    def make(folder: Path) -> Trained:
        copied(dense, folder / "store")
        return make_temporal(dense, Store(str(folder / "store")))

    return make_once(tmp_path_factory, "temporal", make)


@pytest.fixture
def own_dense(dense: Trained, tmp_path: Path) -> Trained:
    """A copy of `dense` that a test may change."""
    return copied(dense, tmp_path / "dense")


@pytest.fixture
def own_temporal(temporal_trained: Trained, tmp_path: Path) -> Trained:
    """A copy of `temporal_trained` that a test may change."""
    return copied(temporal_trained, tmp_path / "temporal")


def copied(trained: Trained, root: Path) -> Trained:
    """A copy of a trained pipeline and its store."""
    # Locks of other workers are not copied.
    shutil.copytree(trained.store.root, root, ignore=shutil.ignore_patterns("work"))
    return dataclasses.replace(trained, store=Store(str(root)))


# Files with tests that take long. They begin first, so that no core waits for them at the end.
FIRST = (
    "test_daemon.py",
    "test_front_door.py",
    "test_kills.py",
    "test_pipeline.py",
    "test_several_processes.py",
    "test_ray.py",
    "test_remote_stores.py",
    "test_runner.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Puts the longest files first."""
    order = {name: place for place, name in enumerate(FIRST)}
    items.sort(key=lambda item: order.get(item.path.name, len(FIRST)))
