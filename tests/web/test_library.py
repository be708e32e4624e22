"""The library: tracks with rights and stems, new sources, problems, and tracks that are forgotten."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from melodygan_core import catalogue
from melodygan_core.catalogue import read_sources
from melodygan_core.config import CatalogueConfig
from melodygan_core.errors import TransientError
from melodygan_core.storage import Store
from melodygan_core.text import plain_text
from melodygan_web.dagster_runs import DagsterRuns
from melodygan_web.library import erasure
from melodygan_web.screens import library_actions
from tests.browser.xss import STRINGS
from tests.web.conftest import Opened, Tones, open_studio, put_release
from tests.web.filling import put_failure, put_sound, put_stems, put_track, row
from tests.web.markup import check_markup
from tests.web.test_security import upload

FACTS = {"rights": "own", "licence": "CC BY 4.0", "tags": ["calm", "piano"]}


class Dagster:
    """Answers queries as Dagster does, and remembers what it was asked.

    Attributes:
        asked: Query and variables of each call.
        failed: Rows of the check of a stage.
        sources: Rows of the check of the catalogue.
        down: Whether it does not answer.
    """

    def __init__(self) -> None:
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.failed: dict[str, list[dict[str, Any]]] = {"raw_wav": [], "stems": [], "features": []}
        self.sources: list[dict[str, Any]] = []
        self.down = False

    def __call__(self, query: str, variables: dict[str, Any]) -> dict[str, Any]:
        if self.down:
            raise TransientError("Dagster must answer, and did not")
        self.asked.append((query, variables))
        if "launchRun" in query:
            return {"launchRun": {"__typename": "LaunchRunSuccess", "run": {"runId": "r1"}}}
        if "assetNodeOrError" in query:
            keys = ["Song a a", "Song b-a b", "c"]
            return {"assetNodeOrError": {"__typename": "AssetNode", "partitionKeys": keys}}
        if "deleteDynamicPartitions" in query:
            return {"deleteDynamicPartitions": {"__typename": "DeleteDynamicPartitionsSuccess"}}
        rows = {**self.failed, "catalogue": self.sources}
        return {name: [_execution(found)] if found else [] for name, found in rows.items()}

    def launched(self) -> list[tuple[str, dict[str, str]]]:
        """Job and tags of every run that was started."""
        params = [v["params"] for q, v in self.asked if "launchRun" in q]
        return [
            (p["selector"]["jobName"], {t["key"]: t["value"] for t in p["executionMetadata"]["tags"]})
            for p in params
        ]


def _execution(rows: list[dict[str, Any]]) -> dict[str, Any]:
    entry = {"label": "failed", "table": {"records": [json.dumps(row) for row in rows]}}
    return {"evaluation": {"metadataEntries": [{"label": "tracks"}, entry]}}


@pytest.fixture
def dagster() -> Dagster:
    return Dagster()


@pytest.fixture
def library(
    store: Store, tmp_path: Path, dagster: Dagster, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Opened]:
    """A studio with a sources file, a track with stems, one without a sound, and one that failed."""
    put_release(store)
    put_track(store, "a", title="Ode")
    put_sound(store, "a")
    put_stems(store, "a")
    put_track(store, "b", rights="unknown", licence="", tags=())
    put_track(store, "c", title="")
    put_failure(store, "c", "it must last 5 to 1200 s, got 2.00 s")
    sources = tmp_path / "own" / "sources.yaml"
    sources.parent.mkdir()
    sources.write_text("# mine\nsources:\n  - songs\n")
    # The child process imports torch, which takes seconds.
    monkeypatch.setattr(erasure, "in_child", lambda function, *arguments: function(*arguments))
    opened = open_studio(store, Tones(store), DagsterRuns(dagster), sources=sources)
    with opened.app:
        yield opened


def sources_of(opened: Opened) -> Path:
    path = opened.app.studio.sources
    assert path is not None
    return path


def test_tracks_are_shown_with_rights_state_and_sound(library: Opened) -> None:
    page = library.client.page("/library")
    cards = dict(re.findall(r'data-track="(\w)" data-state="(\w+)"', page))
    assert cards == {"a": "separated", "b": "waiting", "c": "failed"}
    assert page.index('data-track="c"') < page.index('data-track="a"'), "the newest first"
    assert "Unknown: to listen to, not to train on" in page and "No licence named" in page
    [sound] = set(re.findall(r"/studio/sounds/(t[0-9a-f]{20})\.wav", page))
    assert library.client.get(f"/studio/sounds/{sound}.wav").headers["content-type"] == "audio/wav"
    part = library.client.get(f"/studio/sounds/{sound}.wav", headers={"Range": "bytes=0-3"})
    assert (part.status_code, part.content) == (206, b"RIFF")
    assert len(library.client.get(f"/studio/sounds/{sound}/peaks.json").json()) == 3200
    assert library.client.get(f"/studio/sounds/{sound}/spectrogram.png").content.startswith(b"\x89PNG")


def test_tracks_are_searched_by_words_and_state(library: Opened) -> None:
    def found(**query: str) -> list[str]:
        answer = library.client.get("/studio/library", params={**query, "part": "1"})
        assert "<html" not in answer.text
        return re.findall(r'data-track="(\w)"', answer.text)

    assert found(q="ODE cc") == ["a"]
    assert found(q="ode nothing") == []
    assert found(state="failed") == ["c"]
    assert found(state="<script>") == ["c", "b", "a"]
    assert found(**{"from": "2"}) == ["a"]
    assert found(**{"from": "-1"}) == ["c", "b", "a"]


def test_a_track_has_its_stems_at_their_loudness(library: Opened) -> None:
    page = library.client.page("/library/tracks/a")
    stems = re.findall(r'data-stem="/studio/sounds/(t[0-9a-f]{20})\.wav"', page)
    assert len(stems) == 2
    assert page.index("Vocals") < page.index("Instrumental")
    assert 'data-lufs="-12.0"' in page and 'data-lufs="-20.0"' in page
    # A track that is fetched again is another sound.
    put_sound(library.store, "a", 3.0)
    library.app.studio.library.refresh()
    assert set(re.findall(r"/sounds/(t\w+)\.wav", library.client.page("/library/tracks/a"))) >= set(stems)
    assert library.client.get("/studio/library/tracks/nothing").status_code == 404
    assert library.client.get("/studio/library/tracks/..%2f..%2fetc").status_code == 404


def test_a_separation_that_is_not_complete_is_not_shown(library: Opened) -> None:
    (library.store.stems("m1", "a") / "stems.json").unlink()
    library.store.raw_json("a").unlink()
    library.app.studio.library.refresh()
    assert "<audio" not in library.client.page("/library/tracks/a")


def test_a_url_is_added_with_rights(library: Opened) -> None:
    answer = library.client.act("/library/sources", {"url": " https://a.example/x#t ", **FACTS})
    assert answer.status_code == 200, answer.text
    path = sources_of(library)
    [_, source] = read_sources(path)
    assert (source.url, source.rights, source.licence, source.tags) == (
        "https://a.example/x#t",
        "own",
        "CC BY 4.0",
        ("calm", "piano"),
    )
    assert path.read_text().startswith("# mine\nsources:\n  - songs\n")
    page = library.client.page("/library")
    assert "https://a.example/x#t" in page and "2 sources" in page
    again = library.client.act("/library/sources", {"url": "https://A.example/x", **FACTS})
    assert again.status_code == 400 and "lists already" in again.json()["error"]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"rights": ""}, "rights must be own, licensed, open, unknown"),
        ({"rights": None}, "rights must be"),
        ({"rights": "stolen"}, "rights must be"),
        ({"url": ""}, "exactly one of url and path"),
        ({"url": "file:///etc/passwd"}, "url must be"),
        ({"url": "javascript:alert(1)"}, "url must be"),
        ({"url": "ytsearch:music"}, "url must be"),
        ({"url": "https://user:secret@a.example/"}, "url must be without credentials"),
        ({"url": "https://a.example/\nrights: own"}, "url must be at most"),
        ({"url": "https://a.example/" + "x" * 5000}, "url must be text of at most 4096"),
        ({"url": 3}, "url must be text"),
        ({"tags": "calm"}, "tags must be a list"),
        ({"tags": ["x"] * 21}, "tags must be a list"),
        ({"licence": ["x"]}, "licence must be text"),
    ],
)
def test_a_source_that_is_not_allowed_is_refused(
    library: Opened, changes: dict[str, Any], sentence: str
) -> None:
    before = sources_of(library).read_bytes()
    answer = library.client.act("/library/sources", {"url": "https://a.example/x", **FACTS, **changes})
    assert answer.status_code == 400 and answer.json()["error"].startswith(sentence)
    assert sources_of(library).read_bytes() == before


def test_text_of_sources_is_text_in_the_file_and_on_the_page(library: Opened) -> None:
    for number, text in enumerate(STRINGS):
        data = {
            "rights": "own",
            "licence": text,
            "tags": [text],
            "url": f"https://a.example/{number}?{quote(text)}",
        }
        answer = library.client.act("/library/sources", data)
        assert answer.status_code == 200, answer.text
    added = read_sources(sources_of(library))[1:]
    assert [source.licence for source in added] == [plain_text(text) for text in STRINGS]
    assert [source.tags for source in added] == [(plain_text(text, 60),) for text in STRINGS]
    assert {source.rights for source in added} == {"own"}
    check_markup(library.client.page("/library"))


def test_text_of_tracks_is_text(library: Opened, dagster: Dagster) -> None:
    def pages(texts: Sequence[str]) -> list[str]:
        catalogue.save(library.store, [])
        rows = [
            row(f"x{n:02d}", title=t, uploader=t, licence=t, tags=(t,), url=f"https://a.example/{n}/{t}")
            for n, t in enumerate(texts)
        ]
        # A catalogue holds no such URL; a page would not link it either.
        rows += [row(f"y{n:02d}", title="", url=t) for n, t in enumerate(texts)]
        catalogue.save(library.store, rows)
        put_sound(library.store, "x00", problems=list(texts), original={"codec": texts[0]}, fetched_at=texts[0])
        library.store.remove(library.store.stems("m1", "x00"))
        put_stems(library.store, "x00")
        for number, text in enumerate(texts):
            put_failure(library.store, f"y{number:02d}", text)
        dagster.failed["stems"] = [{"track": "x01", "title": texts[1], "reason": texts[1], "permanent": False}]
        dagster.sources = [{"source": text, "reason": text} for text in texts]
        library.app.studio.library.refresh()
        lists = [f"/library?from={start}&part=1" for start in range(0, 2 * len(texts), 20)]
        paths = ("/library", *lists, "/library/problems", "/library/tracks/x00", "/library/tracks/y00")
        return [library.client.page(path) for path in paths] + [
            library.client.page("/library/tracks/x00/forget")
        ]

    plain = [check_markup(page) for page in pages([f"word {n}" for n in range(len(STRINGS))])]
    for page, count in zip(pages(STRINGS), plain, strict=True):
        check_markup(page, count)
    catalogue.save(library.store, [])
    for text in STRINGS:
        query = dict.fromkeys(("q", "state", "from", "part"), text)
        check_markup(library.client.get("/studio/library", params=query).text)


def test_a_file_is_added_and_its_track_can_be_listed(library: Opened, tone: bytes) -> None:
    sent = upload(library, tone, "../Übung 1: <b>.wav").json()
    answer = library.client.act("/library/files", {"upload": sent["id"], **FACTS})
    assert answer.status_code == 200, answer.text
    assert answer.json()["title"] == "Übung 1- -b"
    # It moved, so that no copy stays when it is forgotten.
    assert not list((library.store.base / "studio" / "uploads").iterdir())
    [_, source] = read_sources(sources_of(library))
    assert source.path.endswith(f"studio/files/{sent['id']}/Übung 1- -b.wav") and source.rights == "own"
    config = CatalogueConfig(allowed_roots=(str(sources_of(library).parent),))
    report = catalogue.expand(sources_of(library), library.store, config)
    [track] = [t for t in report.tracks if t.url.startswith("file:")]
    assert (track.title, track.rights, track.licence) == ("Übung 1- -b", "own", "CC BY 4.0")
    assert "songs" in report.failed_sources, "there is no such folder"


@pytest.mark.parametrize(
    "request_", [{"upload": "u" + "0" * 20}, {"upload": "../../x"}, {"upload": ""}, {"upload": 3}, {}]
)
def test_only_uploads_are_added(library: Opened, request_: dict[str, Any]) -> None:
    answer = library.client.act("/library/files", {**FACTS, **request_})
    assert answer.status_code == 400 and answer.json()["error"].startswith("upload must be")
    assert not (library.store.base / "studio" / "files").exists()


def test_a_file_without_rights_stays_an_upload(library: Opened, tone: bytes) -> None:
    sent = upload(library, tone).json()
    answer = library.client.act("/library/files", {"upload": sent["id"], "rights": "mine"})
    assert answer.status_code == 400
    sources_of(library).write_text("sources: 3\n")
    answer = library.client.act("/library/files", {"upload": sent["id"], **FACTS})
    assert answer.status_code == 400 and "one key `sources:`" in answer.json()["error"]
    assert library.client.get(f"/studio/sounds/{sent['id']}.wav").status_code == 200
    assert not list((library.store.base / "studio" / "files").iterdir())
    assert "one key `sources:`" in library.client.page("/library")


def test_a_source_is_removed_and_its_tracks_stay(library: Opened) -> None:
    [source] = read_sources(sources_of(library))
    answer = library.client.act("/library/sources/remove", {"source_id": source.source_id})
    assert answer.status_code == 200, answer.text
    assert read_sources(sources_of(library)) == []
    assert library.client.act("/library/sources/remove", {"source_id": source.source_id}).status_code == 400
    assert "3 tracks" in library.client.page("/library")


def test_problems_have_reasons_of_the_store_and_of_runs(library: Opened, dagster: Dagster) -> None:
    dagster.failed["raw_wav"] = [
        {"track": "a", "title": "Ode", "reason": "made since", "permanent": False},
        {"track": "b", "title": "Song b", "reason": "the server did not answer", "permanent": False},
        {"track": "gone", "title": "Gone", "reason": "not in the catalogue", "permanent": False},
    ]
    dagster.sources = [{"source": "songs", "reason": "no such list"}]
    page = library.client.page("/library/problems")
    assert "it must last 5 to 1200 s" in page and "the server did not answer" in page and "no such list" in page
    assert "made since" not in page and "not in the catalogue" not in page
    assert "3 problems" in page
    # The page itself does not wait for Dagster.
    asked = len(dagster.asked)
    assert "it must last 5 to 1200 s" in library.client.page("/library")
    assert len(dagster.asked) == asked
    dagster.down = True
    assert "Dagster must answer" in library.client.page("/library/problems")


def test_a_track_is_tried_again(library: Opened, dagster: Dagster) -> None:
    answer = library.client.act("/library/tracks/c/retry", {"stage": "raw_wav"})
    assert answer.status_code == 200, answer.text
    assert not library.store.raw_error("c").exists()
    tags = {"dagster/asset_partition_range_start": "c", "dagster/asset_partition_range_end": "c"}
    assert dagster.launched() == [("raw_wav_job", tags)]
    library.client.act("/library/tracks/b/retry", {"stage": "stems"})
    assert dagster.launched()[1][0] == "stems_job"
    assert dagster.launched()[1][1]["dagster/asset_partition_range_start"] == "Song b-a b"
    for stage in ("x_job", "catalogue", "", 3):
        assert library.client.act("/library/tracks/b/retry", {"stage": stage}).status_code == 400
    assert library.client.act("/library/tracks/zz/retry", {}).status_code == 404


def test_new_tracks_are_looked_for_by_dagster(library: Opened, dagster: Dagster) -> None:
    assert library.client.act("/library/ingest").json() == {"run": "r1"}
    assert dagster.launched() == [("catalogue_job", {})]
    dagster.down = True
    answer = library.client.act("/library/ingest")
    assert answer.status_code == 503 and "Dagster must answer" in answer.json()["error"]


def test_what_follows_is_shown_before_a_track_is_forgotten(library: Opened, dagster: Dagster) -> None:
    page = library.client.page("/library/tracks/a/forget")
    assert "raw/a.wav" in page and "stems/m1/a" in page and "No model was trained on it." in page
    assert library.store.raw_wav("a").exists()
    # Not without the id, which only that page sends.
    for data in ({}, {"confirmed": True}, {"confirmed": "b"}):
        assert library.client.act("/library/tracks/a/forget", data).status_code == 400
    assert library.store.raw_wav("a").exists()
    answer = library.client.act("/library/tracks/a/forget", {"confirmed": "a"})
    assert answer.status_code == 200, answer.text
    assert answer.json()["removed"] >= 3 and answer.json()["remaining"] == ""
    assert not library.store.raw_wav("a").exists() and "a" in catalogue.forgotten(library.store)
    assert 'data-track="a"' not in library.client.page("/library")
    [keys] = [v["keys"] for q, v in dagster.asked if "deleteDynamicPartitions" in q]
    assert keys == ["Song a a"]


def test_results_from_a_forgotten_track_are_removed(library: Opened) -> None:
    sound = re.findall(r"/sounds/(t\w+)\.wav", library.client.page("/library"))[0]
    request = {"kind": "reconstruct", "pipeline": "temporal_flow", "sounds": {"sound": sound}}
    first = library.finished(library.client.act("/jobs/submit", request).json()["id"])
    assert first["state"] == "done"
    [made] = [s for s in library.app.studio.sounds.all() if s.service == "reconstruct"]
    again = {**request, "sounds": {"sound": made.id}}
    assert library.finished(library.client.act("/jobs/submit", again).json()["id"])["state"] == "done"
    library.client.get(f"/studio/sounds/{sound}/peaks.json")
    assert made.uri.rpartition("/")[0] in library.client.page("/library/tracks/a/forget")
    library.client.act("/library/tracks/a/forget", {"confirmed": "a"})
    assert [s for s in library.app.studio.sounds.all() if s.service == "reconstruct"] == []
    assert not list((library.store.base / "uses").glob("*/*"))
    assert not list((library.store.base / "work" / "views").glob("*"))


def test_an_added_file_is_removed_with_its_track_and_its_source(library: Opened, tone: bytes) -> None:
    sent = upload(library, tone, "mine.wav").json()
    library.client.act("/library/files", {"upload": sent["id"], **FACTS})
    report = catalogue.expand(sources_of(library), library.store, CatalogueConfig())
    [track] = [t for t in report.tracks if t.url.startswith("file:")]
    library.app.studio.library.refresh()
    assert "Your own file stays" not in library.client.page(f"/library/tracks/{track.track_id}/forget")
    answer = library.client.act(f"/library/tracks/{track.track_id}/forget", {"confirmed": track.track_id})
    assert answer.status_code == 200 and answer.json()["remaining"] == ""
    assert not list((library.store.base / "studio" / "files").iterdir())
    assert [s.path for s in read_sources(sources_of(library))] == ["songs"]


def test_a_file_of_the_user_stays(library: Opened, tone: bytes) -> None:
    own = sources_of(library).parent / "own.wav"
    own.write_bytes(tone)
    sources_of(library).write_text("sources:\n  - path: own.wav\n    rights: own\n")
    report = catalogue.expand(sources_of(library), library.store, CatalogueConfig())
    [track] = [t for t in report.tracks if t.url.startswith("file:")]
    library.app.studio.library.refresh()
    assert "Your own file stays" in library.client.page(f"/library/tracks/{track.track_id}/forget")
    library.client.act(f"/library/tracks/{track.track_id}/forget", {"confirmed": track.track_id})
    assert own.is_file() and len(read_sources(sources_of(library))) == 1


def test_a_forgotten_track_stays_forgotten_where_dagster_is_down(library: Opened, dagster: Dagster) -> None:
    dagster.down = True
    answer = library.client.act("/library/tracks/a/forget", {"confirmed": "a"})
    assert answer.status_code == 200 and "partition in Dagster stays" in answer.json()["remaining"]
    assert not library.store.raw_wav("a").exists()


def test_a_store_alone_is_read_only(store: Store) -> None:
    put_track(store, "a")
    opened = open_studio(store)
    with opened.app:
        page = opened.client.page("/library")
        assert 'id="add"' not in page and 'id="ingest"' not in page and "Song a" in page
        for path, data in (("sources", {"url": "https://a.example/", **FACTS}), ("ingest", {})):
            assert opened.client.act(f"/library/{path}", data).status_code == 404


def test_a_process_that_is_killed_is_one_sentence() -> None:
    # `os._exit` ends it without an answer, as a kill does.
    with pytest.raises(TransientError, match="must stay alive"):
        erasure.in_child(os._exit, 1)


@pytest.mark.slow
def test_the_consequences_come_from_a_process_of_their_own(store: Store) -> None:
    put_track(store, "a")
    put_sound(store, "a")
    found = erasure.consequences(store.root, "a")
    assert found.files == ("raw/a.json", "raw/a.wav") and found.learned == ()


@pytest.mark.parametrize(
    "path", [route.path.replace("{track_id:str}", "a") for route in library_actions.ROUTES]
)
def test_nothing_is_changed_by_other_pages(library: Opened, path: str) -> None:
    data = json.dumps({"confirmed": "a", "url": "https://a.example/", "source_id": "x", **FACTS}).encode()
    headers = {"Content-Type": "application/json", "X-CSRF-Token": library.client.token}
    before = sources_of(library).read_bytes()
    for change, status in (
        ({"X-CSRF-Token": ""}, 403),
        ({"X-CSRF-Token": "0" * 64}, 403),
        ({"Origin": "http://evil.test"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Host": "evil.test"}, 400),
        ({"Content-Type": "text/plain"}, 415),
        ({"Content-Type": "application/octet-stream"}, 415),
    ):
        answer = library.client.post(f"/studio{path}", content=data, headers={**headers, **change})
        assert answer.status_code == status, change
    assert sources_of(library).read_bytes() == before and library.store.raw_wav("a").exists()
