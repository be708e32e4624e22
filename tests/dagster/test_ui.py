"""`melodygan ui`: what it serves of a store, beside Dagster's web app, and what it refuses."""

from __future__ import annotations

from pathlib import Path

import pytest
from starlette.responses import PlainTextResponse
from starlette.testclient import TestClient

from melodygan_core.errors import InputError
from melodygan_core.gallery.assets import script_source
from melodygan_core.storage.store import Artifact, Store
from melodygan_dagster import ui
from melodygan_dagster.deployment import Deployment
from melodygan_dagster.front_door import build_app
from melodygan_dagster.guard import allowed_hosts
from tests.conftest import Site

ADDRESS = "http://127.0.0.1:3000"
DAGSTER, STUDIO = PlainTextResponse("dagster"), PlainTextResponse("studio")


def opened(store: Store) -> TestClient:
    app = build_app(store, DAGSTER, allowed_hosts(3000), {"/studio": STUDIO})
    return TestClient(app, base_url=ADDRESS, follow_redirects=False)


@pytest.fixture
def door(store: Store) -> TestClient:
    return opened(store)


def test_sounds_are_served_in_parts(store: Store, door: TestClient) -> None:
    path = Path(store.raw_wav("a").path)
    path.parent.mkdir(parents=True)
    path.write_bytes(bytes(range(200)))
    full = door.get("/store/raw/a.wav")
    assert full.status_code == 200 and full.headers["content-type"].startswith("audio/")
    part = door.get("/store/raw/a.wav", headers={"Range": "bytes=100-149"})
    assert part.status_code == 206 and part.content == bytes(range(100, 150))
    assert part.headers["content-range"] == "bytes 100-149/200"


def test_the_newest_gallery_has_an_address(store: Store, door: TestClient) -> None:
    assert door.get("/gallery").status_code == 404
    store.write_record(Artifact("gallery", "v1", "gallery/v1", "0", 1, metrics={"page": "index.html"}))
    page = Path(store.base.path) / "gallery" / "v1" / "index.html"
    page.parent.mkdir(parents=True)
    page.write_text("<p>listen</p><script>alert(1)</script>", "utf-8")
    assert door.get("/gallery").headers["location"] == "/store/gallery/v1/index.html"
    served = door.get("/store/gallery/v1/index.html")
    assert served.text.startswith("<p>listen</p>")
    # No script of it runs but the player, by its hash: it has the origin of the app that launches runs.
    [policy] = [
        p for p in served.headers.get_list("content-security-policy") if p.startswith("default-src 'none';")
    ]
    sources = dict(part.strip().split(" ", 1) for part in policy.split(";"))
    assert sources["script-src"] == script_source()
    assert sources["base-uri"] == sources["form-action"] == "'none'"
    # `default-src` is what holds for connections, frames, workers and plug-ins.
    assert set(sources) == {
        "default-src",
        "img-src",
        "media-src",
        "style-src",
        "script-src",
        "base-uri",
        "form-action",
    }


@pytest.mark.parametrize(
    "path",
    [
        "/store/records/gallery.json",
        "/store/dagster/storage/x",
        "/store/raw/../records/gallery.json",
        "/store/raw/%2e%2e/catalogue.parquet",
        "/store/raw/linked",
        "/store/",
        "/store/raw/",
    ],
)
def test_nothing_else_of_the_store_is_served(store: Store, door: TestClient, path: str) -> None:
    for name in ("records/gallery.json", "dagster/storage/x", "catalogue.parquet", "raw/x"):
        file = Path(store.base.path) / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("secret", "utf-8")
    (Path(store.base.path) / "raw" / "linked").symlink_to(Path(store.base.path) / "catalogue.parquet")
    assert door.get(path).status_code == 404


@pytest.mark.parametrize("path", ["/", "/assets", "/runs/x", "/stores", "/raw/a.wav"])
def test_all_other_paths_are_dagster(door: TestClient, path: str) -> None:
    assert door.get(path).text == "dagster"


@pytest.mark.parametrize("path", ["/", "/store/raw/a.wav", "/gallery", "/studio/x"])
def test_every_app_is_behind_the_guard(door: TestClient, path: str) -> None:
    assert door.get("/studio/x").text == "studio"
    assert door.get(path, headers={"Host": "rebound.example"}).status_code == 400
    assert door.get(path, headers={"Sec-Fetch-Site": "cross-site"}).status_code == 403
    assert door.post(path, content="x").status_code == 415


def test_queries_of_dagster_are_not_executed_by_get(door: TestClient) -> None:
    assert door.get("/graphql").text == "dagster"
    assert door.get("/graphql?query=mutation{x}").status_code == 405


def test_files_of_a_remote_store_are_not_served() -> None:
    door = opened(Store("memory://remote"))
    for path in ("/gallery", "/store/raw/a.wav"):
        answer = door.get(path)
        assert answer.status_code == 404 and "memory://remote" in answer.text
    assert door.get("/").text == "dagster"


def test_a_port_in_use_is_one_sentence(deployment: Deployment, site: Site) -> None:
    port = int(site.base_url.rsplit(":", 1)[1])
    with pytest.raises(InputError, match=rf"^port must be a free port, got {port} \(Address already in use\)$"):
        ui.serve(deployment, port)


def test_a_host_that_cannot_be_is_refused_before_anything_starts(deployment: Deployment) -> None:
    with pytest.raises(InputError, match=r"allowed_hosts must be a host"):
        ui.serve(deployment, 1, ["*"])
