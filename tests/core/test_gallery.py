"""The gallery: a page that needs no network, with every sound, picture and provenance it refers to."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from melodygan_core import audio
from melodygan_core.evaluation import music as core
from melodygan_core.gallery import GalleryEntry, render
from melodygan_core.gallery.sounds import EXAMPLE_S
from melodygan_core.metrics import music
from tests.conftest import copied
from tests.core.made import FEATURE, HOSTILE, Trained


class _Page(HTMLParser):
    """What a page refers to, its elements and its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.references: list[str] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.references += [
            v or "" for k, v in attrs if k in ("src", "href", "poster", "srcset", "data", "action")
        ]

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture(scope="module")
def trained(dense: Trained, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """A copy of `dense_gan`, whose store gets the gallery."""
    return copied(dense, tmp_path_factory.mktemp("gallery") / "store")


@pytest.fixture(scope="module")
def folder(trained: Trained) -> Path:
    # What an evaluation of longer pieces has; the module's store is its own.
    core.write_values(
        music.values_of(measured_sets(), core.REFERENCE), evaluation_folder(trained) / core.VALUES
    )
    made = render(trained.dataset, [entry(trained)], trained.store)
    return Path(str(trained.store.at(made.uri)))


def evaluation_folder(trained: Trained) -> Path:
    return Path(str(trained.store.at(trained.evaluation.uri)))


def measured_sets() -> dict[str, music.MeasuredSet]:
    """Five excerpts of each set, whose pulse alone was measured."""
    excerpts = [music.Measures({"pulse_clarity": 0.1 + 0.2 * k}) for k in range(5)]
    return {name: music.MeasuredSet(excerpts, range(5)) for name in core.SETS}


def entry(trained: Trained) -> GalleryEntry:
    """What the gallery takes of a pipeline; its music was measured."""
    rows = music.compare_music(measured_sets(), core.REFERENCE)
    figures = trained.evaluation.metrics | {"music": rows, "music/excerpt_s": 8.0}
    return GalleryEntry(trained.artifacts, trained.samples, replace(trained.evaluation, metrics=figures))


@pytest.fixture(scope="module")
def page(folder: Path) -> str:
    return (folder / "index.html").read_text("utf-8")


def test_the_page_needs_no_network(page: str) -> None:
    assert not re.search(r"(?i)\b(https?|ftp|wss?):", page)
    assert "url(" not in page
    assert "@import" not in page
    assert not set(_Page(page).tags) & {"script", "iframe", "object", "embed", "link", "base", "form"}


def test_everything_it_refers_to_is_there_and_nothing_else(folder: Path, page: str) -> None:
    references = _Page(page).references
    assert all("/" not in r and ":" not in r for r in references)
    assert {p.name for p in folder.iterdir()} - {"index.html", "artifact.json"} == set(references)


def test_the_music_is_a_table_and_a_picture(folder: Path, page: str) -> None:
    assert (folder / "dense_gan-music.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    text = " ".join(_Page(page).text.split())
    assert "form of excerpts of 8.0 s" in text
    cells = ("0.50 <small>[0.30, 0.70]</small>", "0.50", "0.00", "0.00", "0.00", "")
    row = "".join(re.findall(r"<tr><td>pulse_clarity.*?</tr>", page, re.DOTALL)[0].splitlines())
    assert row.endswith("".join(f"<td>{cell}</td>" for cell in cells) + "</tr>")
    assert "tempo_stability" in text


def test_titles_of_strangers_are_text(page: str) -> None:
    assert "<script" not in page
    assert _Page(page).text.count(HOSTILE) >= 9


def test_every_kind_of_sound_is_there_with_its_picture(folder: Path, page: str) -> None:
    text, sounds = _Page(page).text, sorted(p.stem for p in folder.glob("*.flac"))
    for label in (
        "real",
        "true spectrum, Griffin-Lim",
        "dense codec, vocoder",
        "vocals",
        "instrumental",
        "mix",
    ):
        assert label in text
    # Three generated, three versions of two test tracks, three stems.
    assert len(sounds) == 3 + 3 * 2 + 3
    for name in sounds:
        assert (folder / f"{name}.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
        wav, rate = audio.read_wav(folder / f"{name}.flac")
        assert audio.peak_db(wav) > -60
        if not name.startswith("dense_gan-sample"):
            assert wav.shape[1] / rate == pytest.approx(EXAMPLE_S, abs=0.5)
        assert rate == FEATURE.sample_rate


def test_samples_link_to_their_provenance(folder: Path) -> None:
    for i in range(3):
        stored = json.loads((folder / f"dense_gan-sample-00{i}.json").read_text("utf-8"))
        assert stored["index"] == i
        assert stored["sources"]["licences"] == ["CC0-1.0"]


def test_all_pipelines_are_on_one_page(dense: Trained, own_temporal: Trained) -> None:
    made = render(dense.dataset, [entry(dense), entry(own_temporal)], own_temporal.store)
    folder = Path(str(own_temporal.store.at(made.uri)))
    text = _Page((folder / "index.html").read_text("utf-8")).text
    # Only the dense codec is compared with PCA.
    assert text.count("Explained variance on test tracks") == 2
    assert text.count("PCA of the same") == 1
    assert made.metrics["pipelines"] == ["dense_gan", "temporal_gan"]
    # Three generated of each; of two test tracks real, vocoder, two codecs; three stems.
    assert made.metrics["sounds"] == 2 * 3 + 2 * 4 + 3
    names = {p.name for p in folder.iterdir()} - {"index.html", "artifact.json"}
    assert names == set(_Page((folder / "index.html").read_text("utf-8")).references)


def test_rendering_twice_is_a_no_op(trained: Trained, folder: Path) -> None:
    before = (folder / "index.html").stat().st_mtime_ns
    render(trained.dataset, [entry(trained)], trained.store)
    assert (folder / "index.html").stat().st_mtime_ns == before
