"""A studio over a store that is filled by hand, and a runner that makes tones: no model, no training."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.testclient import TestClient

from melodygan_core.audio import write_wav
from melodygan_core.config import Config
from melodygan_core.errors import MelodyGANError
from melodygan_core.progress import ProgressEvent
from melodygan_core.services.uses import use_note
from melodygan_core.storage import ARTIFACT_FILE, Artifact, Store, dump_json
from melodygan_dagster.front_door import build_app
from melodygan_dagster.guard import allowed_hosts
from melodygan_web.app import StudioApp, build_studio
from melodygan_web.dagster_runs import DagsterRuns
from melodygan_web.jobs.worker import Piece, PieceStoppedError, Report
from melodygan_web.sounds import sound_id

RATE = 22_050
HOST = "127.0.0.1:3000"
# On a busy machine the worker may take a minute to load torch.
TIMEOUT_S = 120.0


def tone(path: Path, seconds: float = 1.0, frequency_hz: float = 440.0, gain: float = 0.3) -> None:
    """Writes a sine."""
    t = np.arange(round(seconds * RATE)) / RATE
    path.parent.mkdir(parents=True, exist_ok=True)
    write_wav(path, (gain * np.sin(2 * np.pi * frequency_hz * t)).astype(np.float32)[None], RATE)


def provenance(name: str, **changes: Any) -> dict[str, Any]:
    """What is written beside a generated sound."""
    generation = {"count": 1, "duration_s": 1.0, "seed": 7, "condition": "", "truncation": 2.5}
    return {
        "file": name,
        "index": 0,
        "seed": 7,
        "condition": "",
        "duration_s": 1.0,
        "sample_rate": RATE,
        "peak_db": -10.5,
        "loudness_lufs": -14.0,
        "generation": generation,
        "pipeline": "temporal_flow",
        "release": "r1",
        **changes,
    }


def put_release(
    store: Store, pipeline: str = "temporal_flow", conditions: tuple[str, ...] = ("calm", "fast")
) -> None:
    """A release that can be described and not be loaded."""
    codec, _, prior = pipeline.partition("_")
    folder = Path(str(store.release(pipeline, "r1")))
    (folder / "prior").mkdir(parents=True)
    manifest = {"components": {"prior": {"kind": f"{codec}/{prior}", "path": "prior"}}, "generation": {}}
    dump_json(folder / "manifest.json", manifest)
    dump_json(folder / "prior" / "config.json", {"conditions": list(conditions)})
    artifact = Artifact(f"{pipeline}/release", "r1", f"releases/{pipeline}/r1", "0", 1)
    dump_json(folder / ARTIFACT_FILE, vars(artifact))
    store.write_record(artifact)


def put_samples(store: Store, count: int = 2, group: str = "temporal_flow", **changes: Any) -> list[str]:
    """Generated samples of a pipeline; returns their ids."""
    folder = Path(str(store.samples(group, "v1")))
    ids = []
    for k in range(count):
        name = f"sample-{k:03d}.wav"
        tone(folder / name, frequency_hz=220.0 * (k + 1))
        row = provenance(name, index=k, **{"pipeline": group, **changes})
        dump_json(folder / f"sample-{k:03d}.json", row)
        ids.append(sound_id(f"samples/{group}/v1/{name}"))
    dump_json(folder / ARTIFACT_FILE, vars(Artifact(f"{group}/generated_samples", "v1", "x", "0", 1)))
    return ids


@dataclass
class Tones:
    """A runner that writes a sine per piece.

    Attributes:
        store: Where they go.
        gate: A piece waits for it before it ends.
        failure: Raised in place of making a sound, where it is set.
        pieces: What was asked for.
        figures: What it claims to have measured.
    """

    store: Store
    gate: threading.Event = field(default_factory=threading.Event)
    failure: str = ""
    pieces: list[Piece] = field(default_factory=list)
    figures: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.gate.set()

    def make(self, piece: Piece, report: Report, is_stopped: Callable[[], bool]) -> list[str]:
        self.pieces.append(piece)
        report(ProgressEvent(piece.kind, 0, 2))
        while not self.gate.wait(0.02):
            if is_stopped():
                raise PieceStoppedError
        if self.failure:
            raise MelodyGANError(self.failure)
        report(ProgressEvent(piece.kind, 1, 2))
        target = self.store.use(piece.kind, piece.run_id)
        with self.store.writing_folder(target) as folder:
            tone(folder / "made-000.wav", frequency_hz=300.0 + piece.settings.get("seed", 0) % 500)
            row = provenance("made-000.wav", seed=piece.settings.get("seed"), service=piece.kind)
            dump_json(folder / "made-000.json", {**row, **self.figures, "settings": piece.settings})
            artifact = self.store.artifact(self.store.at(piece.release))
            assert artifact is not None
            dump_json(folder / "use.json", use_note(piece.kind, {**piece.settings, **piece.inputs}, artifact))
        return [f"{self.store.uri(target)}/made-000.wav"]

    def close(self) -> None:
        self.gate.set()


class Client(TestClient):
    """A browser at the studio: it has a session, and sends its token."""

    def __init__(self, app: Any, **more: Any) -> None:
        super().__init__(app, base_url=f"http://{HOST}", **more)
        self.token = self.get("/studio/session").json()["csrf_token"]

    def act(self, path: str, data: Any = None, **headers: str) -> Any:
        """Posts JSON as the pages do."""
        body = json.dumps({} if data is None else data)
        own = {"Content-Type": "application/json", "X-CSRF-Token": self.token} | headers
        return self.post(f"/studio{path}", content=body, headers=own)

    def page(self, path: str) -> str:
        """The text of a page that must be there."""
        answer = self.get(f"/studio{path}", headers={"Accept": "text/html"})
        assert answer.status_code == 200, answer.text
        return answer.text


@dataclass
class Opened:
    """A studio as it is served, behind the guard and beside a Dagster that answers one word."""

    app: StudioApp
    door: Any
    client: Client
    tones: Tones
    store: Store

    def finished(self, job_id: str) -> dict[str, Any]:
        """The event of a job when it is not active any more."""
        job = wait_for(lambda: (j := self.app.studio.jobs.get(job_id)) and not j.is_active and j)
        return job.to_event()


def wait_for(found: Callable[[], Any]) -> Any:
    """What a function returns as soon as that is true."""
    deadline = time.monotonic() + TIMEOUT_S
    while not (value := found()):
        assert time.monotonic() < deadline, "it took too long"
        time.sleep(0.02)
    return value


def open_studio(
    store: Store,
    tones: Tones | None = None,
    dagster: DagsterRuns | None = None,
    sources: Path | None = None,
    config: Config | None = None,
) -> Opened:
    """Serves a studio; its jobs are not started."""
    tones = tones or Tones(store)
    app = build_studio(store.root, runner=tones, dagster=dagster, sources=sources, config=config)
    word = Starlette()
    word.mount("/", PlainTextResponse("dagster"))
    door = build_app(store, word, allowed_hosts(3000), {"/studio": app}, {"/studio/uploads"})
    return Opened(app, door, Client(door, follow_redirects=False), tones, store)


@pytest.fixture
def studio(store: Store) -> Iterator[Opened]:
    """A studio over a store with a release and two samples."""
    put_release(store)
    put_samples(store)
    opened = open_studio(store)
    with opened.app:
        yield opened
