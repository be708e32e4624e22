"""`melodygan ui`: what the loopback server serves of a store, and what it refuses."""

from __future__ import annotations

from pathlib import Path

import pytest
from starlette.testclient import TestClient

from melodygan_core.errors import InputError
from melodygan_core.storage.store import Artifact, Store
from melodygan_dagster import ui
from melodygan_dagster.deployment import Deployment
from tests.conftest import PRESET, Site


@pytest.fixture
def listener(store: Store) -> TestClient:
    return TestClient(ui.listening_app(store), base_url=f"http://{ui.HOST}", follow_redirects=False)


def test_sounds_are_served_in_parts(store: Store, listener: TestClient) -> None:
    path = Path(store.raw_wav("a").path)
    path.parent.mkdir(parents=True)
    path.write_bytes(bytes(range(200)))
    full = listener.get("/raw/a.wav")
    assert full.status_code == 200 and full.headers["content-type"].startswith("audio/")
    part = listener.get("/raw/a.wav", headers={"Range": "bytes=100-149"})
    assert part.status_code == 206 and part.content == bytes(range(100, 150))
    assert part.headers["content-range"] == "bytes 100-149/200"


def test_the_front_page_is_the_gallery_in_use(store: Store, listener: TestClient) -> None:
    assert listener.get("/").status_code == 404
    store.write_record(Artifact("gallery", "v1", "gallery/v1", "0", 1, metrics={"page": "index.html"}))
    page = Path(store.base.path) / "gallery" / "v1" / "index.html"
    page.parent.mkdir(parents=True)
    page.write_text("<p>listen</p>", "utf-8")
    for path in ("/", "/gallery/"):
        answer = listener.get(path)
        assert answer.headers["location"] == "/gallery/v1/index.html"
    assert listener.get("/gallery/v1/index.html").text == "<p>listen</p>"


@pytest.mark.parametrize(
    "path",
    [
        "/records/gallery.json",
        "/dagster/storage/x",
        "/raw/../records/gallery.json",
        "/raw/%2e%2e/catalogue.parquet",
    ],
)
def test_nothing_else_of_the_store_is_served(store: Store, listener: TestClient, path: str) -> None:
    for name in ("records/gallery.json", "dagster/storage/x", "catalogue.parquet", "raw/x"):
        file = Path(store.base.path) / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("secret", "utf-8")
    assert listener.get(path).status_code == 404


def test_another_name_for_this_machine_is_refused(listener: TestClient) -> None:
    assert listener.get("/", headers={"Host": "rebound.example"}).status_code == 400


@pytest.mark.parametrize("name", ["port", "listen_port"])
def test_a_port_in_use_is_named(deployment: Deployment, site: Site, name: str) -> None:
    taken = int(site.base_url.rsplit(":", 1)[1])
    ports = {"port": 0, "listen_port": 0} | {name: taken}
    with pytest.raises(InputError, match=f"^{name} must be a free port, got {taken} "):
        ui.serve(deployment, **ports)


def test_a_remote_store_cannot_be_listened_to(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="a local folder"):
        ui.serve(Deployment("memory://x", tmp_path / "s.yaml", PRESET), 1, 2)
