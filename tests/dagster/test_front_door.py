"""`melodygan ui` as it runs, in a real browser: its pages work, and pages of other origins reach nothing."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

import dagster as dg
import numpy as np
import psutil
import pytest
import yaml

from melodygan_core.audio import write_wav
from melodygan_core.storage.store import Artifact, Store
from melodygan_dagster import reporting
from melodygan_dagster.deployment import Deployment
from melodygan_dagster.resources import StoreResource
from tests.conftest import Site, serving
from tests.dagster.conftest import VARIABLES

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.slow
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
ATTACKS = Path(__file__).with_name("attacks.js").read_text("utf-8")
TIMEOUT_S = 120.0
SELECTOR = (
    'repositoryLocationName: "melodygan", repositoryName: "__repository__", pipelineName: "catalogue_job"'
)
PARAMETERS = f"selector: {{{SELECTOR}}}"
MUTATION = "mutation { launchRun(executionParams: {%s, runConfigData: %s}) { __typename } }"
LAUNCH = MUTATION % (PARAMETERS, "{}")
PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c4890000000d49444154789c6360606060000000"
    "050001a5f645400000000049454e44ae426082"
)


@dataclass
class Door:
    """A running `melodygan ui`, a site of somebody else, and Dagster's instance."""

    process: subprocess.Popen[bytes]
    port: int
    folder: Path
    instance: dg.DagsterInstance
    site: Site

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def runs(self) -> int:
        return self.instance.get_runs_count()

    def post(self, query: str) -> dict[str, Any]:
        """The answer to a query, as a program asks it."""
        request = Request(f"{self.url}/graphql", json.dumps({"query": query}).encode())
        request.add_header("Content-Type", "application/json")
        with urlopen(request, timeout=30) as answer:
            return json.load(answer)


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    folder = tmp_path_factory.mktemp("door")
    with pytest.MonkeyPatch.context() as patch, serving() as site:
        for name in ("DAGSTER_HOME", *(f"MELODYGAN_{v}" for v in VARIABLES)):
            patch.delenv(name, raising=False)
        # Each sensor looks once, when it starts, and finds no sources.
        patch.setenv("MELODYGAN_TICK_S", "86400")
        deployment = Deployment(str(folder / "store"), folder / "sources.yaml", "demo")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        with deployment.instance() as instance:
            fill(deployment.opened, instance)
            command = [
                sys.executable,
                "-m",
                "melodygan_core.cli",
                "ui",
                "--port",
                str(port),
                "--preset",
                "demo",
            ]
            command += ["--store", deployment.store, "--sources", str(deployment.sources)]
            with (folder / "ui.log").open("wb") as log:
                process = subprocess.Popen(command, stdout=log, stderr=log)
            try:
                made = Door(process, port, folder, instance, site)
                wait_for(lambda: answers(made.url), made)
                yield made
            finally:
                process.send_signal(signal.SIGINT)
                try:
                    process.wait(TIMEOUT_S)
                finally:
                    process.kill()


def fill(store: Store, instance: dg.DagsterInstance) -> None:
    """A sound and a gallery, recorded with the links that the project gives them."""
    resource = StoreResource(root=store.root)
    for path in (store.raw_wav("a"), store.at("gallery/v1/a.wav")):
        Path(path.path).parent.mkdir(parents=True)
        write_wav(Path(path.path), np.zeros((2, 4410), np.float32), 44_100)
    page = Path(store.base.path) / "gallery" / "v1" / "index.html"
    page.write_text('<h1>Heard</h1><audio controls src="a.wav"></audio><script>document.title = "ran"</script>')
    store.write_record(Artifact("gallery", "v1", "gallery/v1", "0", 1, metrics={"page": "index.html"}))
    metadata = {
        "open": resource.url("gallery/v1/index.html"),
        "picture": reporting.image(resource, "test", lambda: PNG),
    }
    instance.report_runless_asset_event(dg.AssetMaterialization("gallery", metadata=metadata))


def answers(url: str) -> bool:
    try:
        with urlopen(f"{url}/server_info", timeout=5):
            return True
    except URLError:
        return False


def wait_for(done: Any, door: Door) -> None:
    deadline = time.monotonic() + TIMEOUT_S
    while not done():
        log = (door.folder / "ui.log").read_text("utf-8")[-3000:]
        assert door.process.poll() is None and time.monotonic() < deadline, log
        time.sleep(0.2)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("chromium is not installed")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        options = [
            "--no-sandbox",
            # The name of a server that moves to 127.0.0.1 after its page was loaded.
            "--host-resolver-rules=MAP evil.test 127.0.0.1",
            # This browser has a guard of its own for loopback. Others have not, so that it is switched off.
            "--disable-features=LocalNetworkAccessChecks,LocalNetworkAccessChecksWebSockets",
        ]
        launched = playwright.chromium.launch(executable_path=CHROMIUM, args=options)
        yield launched
        launched.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    context = browser.new_context(viewport={"width": 1500, "height": 950})
    opened = context.new_page()
    opened.set_default_timeout(60_000)
    yield opened
    context.close()


def attack(door: Door, page: Page, start: str, target: str) -> dict[str, str]:
    """What a page at `start`, which is not the door's, gets from the door at `target`."""
    script = f"const DOOR = {json.dumps(target)}, MUTATION = {json.dumps(LAUNCH)};\n{ATTACKS}"
    html = f"<!doctype html><title>evil</title><body><script>{script}</script>"
    # The page comes from the server that the name stood for before it moved.
    page.route(start, lambda route: route.fulfill(body=html, content_type="text/html"))
    page.goto(start)
    return page.evaluate("attack()")


def test_a_page_of_another_origin_reaches_nothing(door: Door, page: Page) -> None:
    before = door.runs()
    for target in (door.url, f"http://localhost:{door.port}"):
        outcomes = attack(door, page, f"{door.site.base_url}/evil.html", target)
        assert len(outcomes) == 18, outcomes
        assert not {name: how for name, how in outcomes.items() if how.startswith("read")}
        assert {outcomes[name] for name in ("img", "fetch json", "fetch page read", "websocket")} == {"refused"}
    # A link to it is opened, and executes nothing.
    page.goto(f"{door.site.base_url}/evil.html")
    page.evaluate("url => { location = url }", f"{door.url}/graphql?query={LAUNCH}")
    page.wait_for_url(f"{door.url}/**")
    assert "/graphql must be queried by POST" in page.content()
    time.sleep(1)
    assert door.runs() == before


def test_a_name_that_moves_to_loopback_reads_nothing(door: Door, page: Page) -> None:
    before = door.runs()
    own = f"http://evil.test:{door.port}"
    outcomes = attack(door, page, f"{own}/evil.html", own)
    # To the browser it is one origin, so that the page reads what the guard says.
    refusal = f"read: 400 Host must be one of 127.0.0.1:{door.port}, localhost:{door.port}, got 'evil.test:"
    read = {name: how for name, how in outcomes.items() if how.startswith("read")}
    assert "fetch json" in read and "fetch page read" in read
    assert all(how.startswith(refusal) for how in read.values()), read
    assert outcomes["websocket"] == "refused"
    page.goto(f"{own}/runs")
    assert "Host must be one of" in page.content()
    assert door.runs() == before


def test_a_run_with_config_of_its_own_is_not_launched(door: Door) -> None:
    before = door.runs()
    sources = door.folder / "own.yaml"
    sources.write_text(yaml.safe_dump({"sources": [{"url": door.site.add("/canary.wav", b"")}]}), "utf-8")
    settings = {"allow_private": True, "allow_roots": "/", "sources": str(sources)}
    config = json.dumps(json.dumps({"resources": {"settings": {"config": settings}}}))
    answer = door.post(MUTATION % (PARAMETERS, config))
    assert answer["data"]["launchRun"]["__typename"] == "RunConfigValidationInvalid"
    assert door.runs() == before and not door.site.hits["/canary.wav"]


def test_the_page_of_an_asset_links_to_the_store_on_the_same_port(door: Door, page: Page) -> None:
    page.goto(f"{door.url}/assets/gallery")
    link = page.get_by_role("link", name="/store/gallery/v1/index.html").first
    link.wait_for()
    picture = page.locator("img[src^='/store/pictures/']").first
    picture.wait_for()
    assert picture.evaluate("image => image.decode().then(() => image.naturalWidth)") == 1
    screenshot(page, "asset")
    with page.context.expect_page() as opened:
        link.click()
    gallery = opened.value
    gallery.get_by_text("Heard").wait_for()
    # Its sound is there, and its script did not run.
    loaded = "audio => new Promise(done => { audio.oncanplay = () => done(audio.duration); audio.load() })"
    assert gallery.locator("audio").evaluate(loaded) == pytest.approx(0.1)
    assert gallery.title() != "ran"


def test_the_graph_is_shown_and_a_job_is_launched_and_followed(door: Door, page: Page) -> None:
    frames: list[str] = []
    page.on("websocket", lambda ws: ws.on("framereceived", lambda frame: frames.append(str(frame))))
    page.goto(f"{door.url}/asset-groups")
    page.get_by_text("temporal_gan", exact=True).locator("visible=true").nth(1).wait_for()
    screenshot(page, "graph")
    before = door.runs()
    # Of one's own audio, without a network.
    (door.folder / "recordings").mkdir()
    shutil.copy(Path(Store(str(door.folder / "store")).raw_wav("a").path), door.folder / "recordings" / "a.wav")
    sources = {"sources": [{"path": "recordings", "rights": "own"}]}
    (door.folder / "sources.yaml").write_text(yaml.safe_dump(sources), "utf-8")
    page.goto(f"{door.url}/locations/melodygan/jobs/catalogue_job")
    page.get_by_role("button", name="Materialize").first.click()
    wait_for(lambda: door.runs() == before + 1, door)
    [run] = door.instance.get_runs(limit=1)
    page.goto(f"{door.url}/runs/{run.run_id}")
    finished = dg.RunsFilter([run.run_id], statuses=[dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE])
    wait_for(lambda: door.instance.get_runs_count(finished), door)
    page.get_by_text("RUN_SUCCESS").first.wait_for()
    screenshot(page, "run")
    # The log came by websocket.
    assert any("RunSuccessEvent" in frame or "RUN_SUCCESS" in frame for frame in frames)
    [run] = door.instance.get_runs(limit=1)
    assert run.status == dg.DagsterRunStatus.SUCCESS


def test_the_studio_is_beside_dagster_and_shows_its_runs(door: Door, page: Page) -> None:
    page.goto(f"{door.url}/studio")
    assert page.url == f"{door.url}/studio/listen"
    page.get_by_text("Nothing has been made yet").wait_for()
    page.get_by_role("link", name="Jobs").click()
    # Of the test before.
    page.locator(".run", has_text="catalogue").get_by_text("Done").wait_for()
    screenshot(page, "studio-jobs")
    page.get_by_role("link", name="Dagster").click()
    page.wait_for_url(lambda url: "/studio" not in url)


def screenshot(page: Page, name: str) -> None:
    """Saves what the browser shows to the folder named by SCREENSHOTS, for a person to look at."""
    if folder := os.environ.get("SCREENSHOTS"):
        page.wait_for_timeout(1500)
        page.screenshot(path=f"{folder}/{name}.png")


def processes(door: Door) -> list[psutil.Process]:
    """The command, the code server with what it started, and the daemon."""
    process = psutil.Process(door.process.pid)
    return [process, *process.children(recursive=True)]


def test_the_port_is_the_only_one(door: Door) -> None:
    listening = {
        connection.laddr.port
        for process in processes(door)
        for connection in process.net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN
    }
    assert listening == {door.port}


def test_ctrl_c_ends_everything(door: Door) -> None:
    started = processes(door)
    assert len(started) >= 4
    door.process.send_signal(signal.SIGINT)
    assert door.process.wait(TIMEOUT_S) == 0
    assert not [process for process in started if process.is_running() and process.status() != "zombie"]
    with pytest.raises((URLError, HTTPError)):
        urlopen(f"{door.url}/server_info", timeout=5)
