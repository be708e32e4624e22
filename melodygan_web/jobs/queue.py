"""The queue of jobs: on disk, worked off one piece at a time, the same for every tab and after a restart."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Protocol

from filelock import FileLock, Timeout

from melodygan_core.config import GenerationConfig, require, to_dict
from melodygan_core.config.registry import require_capability
from melodygan_core.errors import InputError, MelodyGANError, storage_reason
from melodygan_core.progress import ProgressEvent
from melodygan_core.services.release_facts import release_in_use
from melodygan_core.storage import Store
from melodygan_core.storage.kinds import STUDIO_JOB
from melodygan_web.jobs.kinds import job_kind
from melodygan_web.jobs.record import Input, Job, after_restart, new_id, read_job, save_job
from melodygan_web.jobs.worker import Piece, PieceStoppedError, Report, Worker

# Jobs that wait: more is a mistake, or somebody else's program.
MAX_WAITING = 100
# Ended jobs that a page lists.
LISTED = 200


class Runner(Protocol):
    """What makes the sounds of a piece; `Worker` does so in a process of its own."""

    def make(self, piece: Piece, report: Report, is_stopped: Callable[[], bool]) -> list[str]:
        """Runs a service and returns the URIs of its sounds; see Worker.make."""
        ...

    def close(self) -> None:
        """Ends it at once."""
        ...


class JobQueue:
    """All jobs of a store. One server works them off; every change has a number, so that pages can follow.

    Args:
        store: Where jobs and sounds are kept.
        runner: Makes the sounds.
        on_made: Called when a piece is finished.
    """

    def __init__(
        self, store: Store, runner: Runner | None = None, on_made: Callable[[], None] = lambda: None
    ) -> None:
        self._store, self._on_made = store, on_made
        self._runner = runner or Worker(store.root)
        self._changed = threading.Condition()
        self._jobs: dict[str, Job] = {}
        self._closed = False
        self._thread: threading.Thread | None = None
        self._lock: FileLock | None = None
        # A page that was loaded before the server was restarted tells old from new by it.
        self.version = time.time_ns() // 1_000_000
        # Numbers of changes of another server mean nothing to this one.
        self.epoch = uuid.uuid4().hex[:8]

    # Life.

    def start(self) -> None:
        """Reads the jobs of earlier servers and works off those that wait, unless another server does."""
        lock = FileLock(self._store.work("locks") / "studio.lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            return
        with self._changed:
            self._lock = lock
            for job in self._stored():
                self._set(after_restart(job), save=after_restart(job) != job)
            self._thread = threading.Thread(target=self._work, name="studio-jobs", daemon=True)
            self._thread.start()

    @property
    def is_working(self) -> bool:
        """Whether this server works off the jobs of the store."""
        return self._thread is not None and not self._closed

    def close(self) -> None:
        """Ends the worker at once; what it was making is interrupted, and its finished sounds stay."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._runner.close()
        if self._thread is not None:
            self._thread.join(10)
        if self._lock is not None:
            self._lock.release()

    # What pages ask for.

    def all(self) -> list[Job]:
        """The jobs, the newest first: all that are active, and the last LISTED others."""
        with self._changed:
            jobs = [self._jobs[key] for key in sorted(self._jobs, reverse=True)]
        ended = [job for job in jobs if not job.is_active][:LISTED]
        return [job for job in jobs if job.is_active or job in ended]

    def get(self, job_id: str) -> Job | None:
        """The job of an id, or None."""
        with self._changed:
            return self._jobs.get(job_id)

    def changed_since(self, version: int) -> tuple[int, list[Job]]:
        """The number of the last change, and the jobs that changed after the one of a number.

        Args:
            version: 0 for all jobs.
        """
        with self._changed:
            found = [job for job in self._jobs.values() if job.change > version]
            return self.version, sorted(found, key=lambda job: job.change)

    def submit(self, kind: str, pipeline: str, settings: Mapping[str, Any], inputs: Mapping[str, Input]) -> Job:
        """Adds a job for the release in use of a pipeline.

        Args:
            kind: Name in JOB_KINDS.
            pipeline: Whose release makes the sounds.
            settings: Fields of the request without sound files.
            inputs: Field to sound.

        Raises:
            InputError: a value that is not allowed, a release that cannot, or too many jobs that wait.
        """
        row = job_kind(kind)
        facts = release_in_use(self._store, pipeline)
        # An unknown capability is reported before values that only it has.
        if row.capability:
            require_capability(facts.capabilities, row.capability)
        if issubclass(row.request, GenerationConfig):
            settings = {**to_dict(facts.generation), **settings}
        needed = row.needs(row.check(settings, inputs))
        if needed:
            require_capability(facts.capabilities, needed)
        condition = settings.get("condition")
        if condition:
            known = ", ".join(facts.conditions) or "empty: this model was trained without conditions"
            require(condition in facts.conditions, "condition", condition, known)
        job = Job(
            new_id(),
            kind,
            pipeline,
            facts.artifact.uri,
            dict(settings),
            dict(inputs),
            row.pieces(settings),
            created_at=time.time(),
        )
        with self._changed:
            self._require_working()
            waiting = sum(j.is_active for j in self._jobs.values())
            require(waiting < MAX_WAITING, "jobs", waiting, f"fewer than {MAX_WAITING} that wait")
            self._set(job)
        return job

    def stop(self, job_id: str) -> Job:
        """Stops a job; what it finished stays.

        Raises:
            InputError: no such job.
        """
        with self._changed:
            job = self._require(job_id)
            if job.state == "queued":
                self._set(replace(job, state="stopped", finished_at=time.time()))
            elif job.state == "running":
                self._set(replace(job, state="stopping"))
            return self._jobs[job_id]

    def resume(self, job_id: str) -> Job:
        """Queues a job again for the sounds that are missing.

        Raises:
            InputError: no such job, or none that can be resumed.
        """
        with self._changed:
            self._require_working()
            job = self._require(job_id)
            require(job.is_resumable, "job", job.state, "failed, stopped or interrupted, with sounds missing")
            self._set(replace(job, state="queued", error="", done=0, total=0, finished_at=0.0))
            return self._jobs[job_id]

    def _require(self, job_id: str) -> Job:
        require(job_id in self._jobs, "job", job_id, "one of the list")
        return self._jobs[job_id]

    def _require_working(self) -> None:
        if not self.is_working:
            raise InputError("jobs must be worked off by one server: another one has this store, stop it first")

    # The thread that works.

    def _work(self) -> None:
        while True:
            with self._changed:
                while not self._closed and self._next() is None:
                    self._changed.wait(1.0)
                job = self._next()
                if self._closed or job is None:
                    return
                self._set(replace(job, state="running", started_at=job.started_at or time.time()))
            try:
                self._run(job.id)
            except OSError as error:
                # The disk is full, say: the job cannot be written, and the next one may be.
                with self._changed:
                    failed = replace(
                        self._jobs[job.id], state="failed", error=storage_reason(error) or str(error)
                    )
                    self._set(failed, save=False)

    def _next(self) -> Job | None:
        waiting = [job for job in self._jobs.values() if job.state == "queued"]
        return min(waiting, key=lambda job: job.id, default=None)

    def _run(self, job_id: str) -> None:
        job = self._jobs[job_id]
        while job.finished_pieces < job.pieces:
            try:
                made = self._runner.make(
                    self._piece(job),
                    lambda event: self._report(job_id, event),
                    lambda: self._is_stopped(job_id),
                )
            except PieceStoppedError:
                break
            except MelodyGANError as error:
                # A server that ends takes its worker with it: the next one reports the job as interrupted.
                if not self._closed:
                    self._end(job_id, state="failed", error="; ".join(map(str, error.args)))
                return
            self._on_made()
            job = self._add(job_id, made)
            if job.state == "stopping" or self._closed:
                break
        if not self._closed:
            self._end(job_id, state="done" if job.finished_pieces == job.pieces else "stopped")

    def _piece(self, job: Job) -> Piece:
        index = job.finished_pieces
        settings = job_kind(job.kind).settings_of(job.settings, index)
        inputs = {name: given.uri for name, given in job.inputs.items()}
        return Piece(f"{job.id}-{index:03d}", job.kind, job.release, settings, inputs)

    def _is_stopped(self, job_id: str) -> bool:
        with self._changed:
            return self._jobs[job_id].state == "stopping"

    def _report(self, job_id: str, event: ProgressEvent) -> None:
        with self._changed:
            job = self._jobs[job_id]
            # Not on disk: after a restart the piece begins again.
            self._set(replace(job, stage=event.stage, done=event.done, total=event.total), save=False)

    def _add(self, job_id: str, made: list[str]) -> Job:
        with self._changed:
            job = self._jobs[job_id]
            finished = job.finished_pieces + 1
            self._set(replace(job, made=(*job.made, *made), finished_pieces=finished, done=0, total=0))
            return self._jobs[job_id]

    def _end(self, job_id: str, **changes: Any) -> None:
        with self._changed:
            self._set(replace(self._jobs[job_id], finished_at=time.time(), **changes))

    def _set(self, job: Job, *, save: bool = True) -> None:
        self.version += 1
        job = replace(job, change=self.version)
        if save:
            save_job(self._store, job)
        self._jobs[job.id] = job
        self._changed.notify_all()

    def _stored(self) -> list[Job]:
        folder = self._store.path(STUDIO_JOB, job_id="x").parent
        paths = [path for path in folder.iterdir() if path.suffix == ".json"] if folder.is_dir() else []
        jobs = []
        for path in sorted(paths, key=lambda path: path.name):
            try:
                jobs.append(read_job(self._store.read_json(path)))
            except (MelodyGANError, TypeError, KeyError, AttributeError):
                continue  # Of another version, or damaged: its sounds are in the list of sounds.
        return jobs
