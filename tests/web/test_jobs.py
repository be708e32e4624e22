"""The queue of jobs: one piece after the other, stopped, resumed, interrupted, and followed by events."""

from __future__ import annotations

import ast
import asyncio
import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from melodygan_core.errors import InputError
from melodygan_core.storage import Store
from melodygan_web.jobs import JobQueue
from melodygan_web.jobs.events import job_events, last_version
from melodygan_web.jobs.kinds import JOB_KINDS, job_kind
from melodygan_web.jobs.record import Job, after_restart, new_id, read_job
from tests.web.conftest import Opened, Tones, open_studio, put_release, put_samples, wait_for


@pytest.fixture
def queue(store: Store) -> JobQueue:
    put_release(store)
    return JobQueue(store, Tones(store))


def submit(studio: Opened, **settings: Any) -> str:
    request = {"kind": "generate", "pipeline": "temporal_flow", "settings": {"duration_s": 1, **settings}}
    answer = studio.client.act("/jobs/submit", request)
    assert answer.status_code == 200, answer.text
    return answer.json()["id"]


def test_pieces_are_made_one_by_one_each_of_its_own_seed(studio: Opened) -> None:
    job_id = submit(studio, count=3, seed=40, condition="calm")
    event = studio.finished(job_id)
    assert event.pop("change") == studio.app.studio.jobs.version
    assert event == {
        "id": job_id,
        "state": "done",
        "label": "Done",
        "percent": 100,
        "made": 3,
        "active": False,
        "resumable": False,
    }
    asked = [(p.settings["count"], p.settings["seed"], p.settings["condition"]) for p in studio.tones.pieces]
    assert asked == [(1, 40, "calm"), (1, 41, "calm"), (1, 42, "calm")]
    page = studio.client.page("/listen")
    assert all(f"Seed {seed}" in page for seed in (40, 41, 42))


def test_a_stopped_job_keeps_what_it_made_and_can_make_the_rest(studio: Opened) -> None:
    studio.tones.gate.clear()
    job_id = submit(studio, count=3, seed=1)
    wait_for(lambda: studio.tones.pieces)
    studio.tones.gate.set()
    wait_for(lambda: studio.app.studio.jobs.get(job_id).made)  # pyrefly: ignore
    studio.tones.gate.clear()
    studio.client.act(f"/jobs/{job_id}/stop")
    event = studio.finished(job_id)
    assert event["state"] in ("stopped", "done") and event["made"] >= 1
    studio.tones.gate.set()
    if event["resumable"]:
        assert studio.client.act(f"/jobs/{job_id}/resume").json()["state"] == "queued"
        assert studio.finished(job_id)["made"] == 3
    made = studio.app.studio.jobs.get(job_id)
    assert made is not None and len(set(made.made)) == 3


def test_a_waiting_job_is_stopped_without_being_run(studio: Opened) -> None:
    studio.tones.gate.clear()
    submit(studio, count=1)
    wait_for(lambda: studio.tones.pieces)
    waiting = submit(studio, count=1, seed=99)
    assert studio.client.act(f"/jobs/{waiting}/stop").json()["state"] == "stopped"
    studio.tones.gate.set()
    assert all(piece.settings["seed"] != 99 for piece in studio.tones.pieces)


def test_a_failed_job_says_why_and_can_be_tried_again(studio: Opened) -> None:
    studio.tones.failure = "the models <b>diverged</b>"
    job_id = submit(studio, count=2)
    assert studio.finished(job_id)["label"] == "Failed: the models <b>diverged</b>"
    assert "<b>diverged" not in studio.client.page("/jobs")
    studio.tones.failure = ""
    studio.client.act(f"/jobs/{job_id}/resume")
    assert studio.finished(job_id)["state"] == "done"


def test_jobs_survive_the_server(store: Store) -> None:
    put_release(store)
    first = open_studio(store)
    first.tones.gate.clear()
    with first.app:
        running, waiting = submit(first, count=2, seed=5), submit(first, count=1, seed=77)
        wait_for(lambda: first.tones.pieces)
        # Not the server's end, which opens the gate, but its death.
        first.tones.close = lambda: None
        stored = {path.name for path in (store.base / "studio" / "jobs").iterdir()}
        assert stored == {f"{running}.json", f"{waiting}.json"}
        first.app.studio.jobs._closed = True
        first.tones.failure = "killed"
        first.tones.gate.set()
    second = open_studio(store)
    with second.app:
        assert second.finished(waiting)["state"] == "done"
        job = second.app.studio.jobs.get(running)
        assert job is not None and job.state == "interrupted" and job.is_resumable
        assert "Interrupted when the server ended" in second.client.page("/jobs")
        # A page of the first server has a token that the second does not know: it asks for another one.
        second.client.token = second.client.get("/studio/session").json()["csrf_token"]
        second.client.act(f"/jobs/{running}/resume")
        assert second.finished(running)["made"] == 2


def test_one_server_works_off_the_jobs_of_a_store(studio: Opened) -> None:
    other = open_studio(studio.store)
    with other.app:
        assert not other.app.studio.jobs.is_working
        request = {"kind": "generate", "pipeline": "temporal_flow", "settings": {}}
        answer = other.client.act("/jobs/submit", request)
        assert answer.status_code == 400 and "one server" in answer.json()["error"]
        assert "Another server" in other.client.page("/jobs")
    assert studio.finished(submit(studio, count=1))["state"] == "done"


@pytest.mark.parametrize(
    ("request_", "sentence"),
    [
        ({"kind": "rm"}, "kind must be generate, "),
        ({"kind": 3}, "kind must be text"),
        ({"pipeline": "other"}, "pipeline must be temporal_flow"),
        ({"settings": []}, "settings must be a JSON object"),
        ({"settings": {"count": 0}}, "count must be"),
        ({"settings": {"count": 201}}, "count must be 1 to 200"),
        ({"settings": {"count": True}}, "count must be"),
        ({"settings": {"seed": -1}}, "seed must be"),
        ({"settings": {"duration_s": 1e9}}, "duration_s must be"),
        ({"settings": {"condition": "loud"}}, "condition must be calm, fast"),
        ({"settings": {"path": "/etc"}}, "a field of GenerateConfig must be one of"),
        ({"sounds": {"sound": "x"}}, "sound must be the id of a sound"),
        ({"sounds": {"sound": 1}}, "sound must be the id of a sound"),
        ({"kind": "variations", "settings": {"sound": "/etc/passwd"}}, "settings must be without sound files"),
        ({"kind": "variations", "settings": {}}, "sound must be"),
        ({"kind": "loop", "settings": {}}, "exactly one of `duration_s` and `bars`"),
    ],
)
def test_a_request_that_is_not_allowed_is_refused_at_once(
    studio: Opened, request_: dict[str, Any], sentence: str
) -> None:
    good = {"kind": "generate", "pipeline": "temporal_flow", "settings": {}, "sounds": {}}
    answer = studio.client.act("/jobs/submit", {**good, **request_})
    assert answer.status_code == 400
    assert answer.json()["error"].startswith(sentence)
    assert studio.tones.pieces == []


def test_what_a_prior_cannot_do_is_refused(store: Store) -> None:
    put_release(store, "temporal_gan", ())
    [sound] = put_samples(store, 1)
    opened = open_studio(store)
    with opened.app:
        request = {"kind": "variations", "pipeline": "temporal_gan", "sounds": {"sound": sound}}
        answer = opened.client.act("/jobs/submit", request)
        assert answer.status_code == 400 and "pipeline that can vary" in answer.json()["error"]


def test_chords_and_a_melody_are_for_priors_that_follow_plans(studio: Opened) -> None:
    put_release(studio.store, "temporal_plan", ())
    sound = studio.app.studio.sounds.all()[0]
    settings = {"count": 2, "chords": "Am F C G", "seed": 4}
    request = {"kind": "generate", "settings": settings, "sounds": {"melody": sound.id}}
    answer = studio.client.act("/jobs/submit", {**request, "pipeline": "temporal_flow"})
    assert (
        answer.status_code == 400 and "pipeline that can plan, such as temporal_plan" in answer.json()["error"]
    )
    answer = studio.client.act("/jobs/submit", {**request, "pipeline": "temporal_plan"})
    assert studio.finished(answer.json()["id"])["made"] == 2
    assert [p.inputs for p in studio.tones.pieces] == [{"melody": sound.uri}] * 2
    assert studio.tones.pieces[1].settings["chords"] == "Am F C G"


def test_a_sound_is_handed_over_by_its_id(studio: Opened) -> None:
    [sound, _] = sorted(studio.app.studio.sounds.all(), key=lambda s: s.uri)
    request = {"kind": "variations", "pipeline": "temporal_flow", "sounds": {"sound": sound.id}}
    job_id = studio.client.act("/jobs/submit", request).json()["id"]
    assert studio.finished(job_id)["state"] == "done"
    assert studio.tones.pieces[0].inputs == {"sound": sound.uri}
    # A service without conditions and seed.
    request = {**request, "kind": "reconstruct"}
    assert studio.finished(studio.client.act("/jobs/submit", request).json()["id"])["made"] == 1
    page = studio.client.page("/jobs")
    assert "A reconstruction" in page and page.count(sound.title) >= 2
    assert "<h3>Variation 0</h3>" in page


def read_events(queue: JobQueue, seen: int, count: int) -> list[dict[str, str]]:
    """The first events after a change, as the fields of each."""

    async def read() -> list[dict[str, str]]:
        found = []
        async for text in job_events(queue, seen):
            fields = dict(line.split(": ", 1) for line in text.strip().splitlines())
            if "data" in fields:
                found.append(fields)
            if len(found) == count:
                break
        return found

    return asyncio.run(asyncio.wait_for(read(), 10))


def test_events_resume_after_the_last_one_that_a_page_saw(queue: JobQueue) -> None:
    queue.start()
    try:
        for seed in (1, 2):
            job = queue.submit("generate", "temporal_flow", {"count": 1, "seed": seed}, {})
            wait_for(lambda job=job: (j := queue.get(job.id)) and j.state == "done")
        both = read_events(queue, 0, 2)
        assert [json.loads(e["data"])["percent"] for e in both] == [100, 100]
        first = queue.version
        third = queue.submit("generate", "temporal_flow", {"count": 1}, {})
        wait_for(lambda: (j := queue.get(third.id)) and j.state == "done")
        [missed] = read_events(queue, last_version(queue, f"{queue.epoch}-{first}"), 1)
        assert json.loads(missed["data"])["id"] == third.id
        assert last_version(queue, missed["id"]) == queue.version
    finally:
        queue.close()


@pytest.mark.parametrize("event_id", ["", "x", "00000000-5", "-5", "{epoch}-", "{epoch}-x", "{epoch}-²"])
def test_ids_of_other_servers_begin_with_every_job(queue: JobQueue, event_id: str) -> None:
    assert last_version(queue, event_id.format(epoch=queue.epoch)) == 0


def test_a_job_is_read_as_it_was_written(store: Store) -> None:
    put_release(store)
    queue = JobQueue(store, Tones(store))
    queue.start()
    job = queue.submit("generate", "temporal_flow", {"count": 1}, {})
    wait_for(lambda: (j := queue.get(job.id)) and j.state == "done")
    queue.close()
    path = store.base / "studio" / "jobs" / f"{job.id}.json"
    assert read_job(store.read_json(path)) == queue.get(job.id)
    # A damaged one costs no other.
    path.with_name("s0.json").write_text("{")
    path.with_name("s1.json").write_text("[]")
    again = JobQueue(store, Tones(store))
    again.start()
    again.close()
    assert [j.id for j in again.all()] == [job.id]


def test_percent_and_label_follow_the_pieces() -> None:
    job = Job(new_id(), "generate", "p", "r", {}, pieces=4, state="running", finished_pieces=1, done=1, total=2)
    assert (job.percent, job.label) == (37, "Making 2 of 4")
    assert after_restart(job).label == "Interrupted when the server ended, 1 of 4 made"


@pytest.mark.parametrize("kind", JOB_KINDS.values(), ids=lambda kind: kind.name)
def test_every_kind_names_a_service(kind: Any) -> None:
    module, _, function = kind.implementation.partition(":")
    # Not imported: that takes the seconds of torch.
    found = find_spec(module)
    assert found is not None and found.origin is not None
    tree = ast.parse(Path(found.origin).read_text("utf-8"))
    assert function in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def test_the_seed_after_the_last_one_is_the_first() -> None:
    last = 2**31 - 1
    assert job_kind("generate").settings_of({"seed": last, "count": 2}, 1)["seed"] == 0
    with pytest.raises(InputError, match="sounds must be sound, got 'x'"):
        job_kind("variations").check({}, {"x": 1})
