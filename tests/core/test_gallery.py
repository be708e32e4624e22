"""The gallery: a page that needs no network, with every sound, picture and provenance it refers to."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from melodygan_core import audio
from melodygan_core.dataset import Dataset
from melodygan_core.evaluation import music as core
from melodygan_core.gallery import assets, rows, samples
from melodygan_core.gallery.render import render
from melodygan_core.gallery.sounds import EXAMPLE_S, GalleryEntry
from melodygan_core.metrics import music
from tests.conftest import copied
from tests.core.made import FEATURE, HOSTILE, Trained


class _Page(HTMLParser):
    """What a page refers to, its elements and its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.references: list[str] = []
        self.sounds: list[dict[str, str | None]] = []
        self.handlers: list[str] = []
        self.scripts: list[str] = []
        self.policy = self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        found = dict(attrs)
        self.handlers += [name for name in found if name.startswith("on") or name == "style"]
        if found.get("class") == "sound":
            self.sounds.append(found)
        if found.get("http-equiv") == "Content-Security-Policy":
            self.policy = found["content"] or ""
        if tag == "script":
            self.scripts.append("")
        self.references += [
            v or "" for k, v in attrs if k in ("src", "href", "poster", "srcset", "data", "action")
        ]

    def handle_data(self, data: str) -> None:
        if self.tags[-1:] == ["script"]:
            self.scripts[-1] += data
        elif self.tags[-1:] != ["style"]:
            self.text += data

    def handle_endtag(self, tag: str) -> None:
        self.tags.append(f"/{tag}")


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
    found = _Page(page)
    assert not re.search(r"(?i)\b(https?|ftp|wss?):", page)
    assert "url(" not in page
    assert "@import" not in page
    assert not set(found.tags) & {"iframe", "object", "embed", "base", "form"}


def test_its_one_script_is_the_player_and_no_other_runs(page: str) -> None:
    found = _Page(page)
    assert found.scripts == [assets.text(assets.PLAYER)]
    assert found.handlers == []
    assert found.policy.startswith(f"script-src {assets.script_source()}; connect-src 'none';")
    digest = hashlib.sha256(found.scripts[0].encode()).digest()
    assert assets.script_source() == f"'sha256-{base64.b64encode(digest).decode()}'"
    # Else the browser would end the script, or begin a comment in it, somewhere inside.
    assert not re.search(r"(?i)</script|<!--", found.scripts[0])
    assert not re.search(r"\beval\b|new Function|innerHTML|outerHTML|insertAdjacentHTML|document\.write", page)


def test_everything_it_refers_to_is_there_and_nothing_else(folder: Path, page: str) -> None:
    references = [r for r in _Page(page).references if not r.startswith(("#", "data:,"))]
    assert all("/" not in r and ":" not in r for r in references)
    assert {p.name for p in folder.iterdir()} - {"index.html", "artifact.json"} == set(references)


def test_links_within_the_page_lead_somewhere(page: str) -> None:
    inside = {r[1:] for r in _Page(page).references if r.startswith("#")}
    assert inside == set(re.findall(r'<section id="(\w+)"', page))


def test_every_sound_has_its_peaks_length_and_loudness(folder: Path, page: str) -> None:
    found = _Page(page)
    assert len(found.sounds) == found.tags.count("audio")
    for sound in found.sounds:
        values = json.loads(sound["data-peaks"] or "")
        assert len(values) == 800 and -1 <= min(values) < 0 < max(values) <= 1
        assert 1 < float(sound["data-duration"] or "") <= EXAMPLE_S
        assert -70 < float(sound["data-lufs"] or "") < 0
        assert sound["data-title"]


def test_the_best_are_those_nearest_to_the_test_tracks(page: str) -> None:
    best = page[page.index('id="best"') : page.index('id="compared"')]
    titles = [sound["data-title"] or "" for sound in _Page(best).sounds]
    assert sorted(titles) == [f"dense_gan, seed 0, piece {k}" for k in (1, 2, 3)]
    same = np.arange(12.0).reshape(3, 4)
    assert samples.distance(same, same) == 0
    assert samples.distance(same[:1], same[1:]) == pytest.approx(8.0)
    ranked = samples.best({"a": [sound("a", 3.0), sound("a", 1.0)], "b": [sound("b", 2.0), sound("b", 4.0)]})
    assert [(s["label"], s["distance"]) for s in ranked] == [("a", 1.0), ("b", 2.0), ("a", 3.0)]
    assert {s["note"] for s in ranked} == {"seed 0, piece 1, slow"}


def sound(pipeline: str, distance: float) -> dict[str, Any]:
    return {"pipeline": pipeline, "label": "seed 0, piece 1", "note": "slow", "distance": distance}


def test_a_row_has_one_group_and_real_comes_first(page: str) -> None:
    rows = page[page.index('id="compared"') : page.index('id="new"')]
    by_group: dict[str, list[str]] = {}
    for sound in _Page(rows).sounds:
        by_group.setdefault(sound["data-group"] or "", []).append(sound["data-title"] or "")
    assert list(by_group) == ["row-0", "row-1"]
    for titles in by_group.values():
        starts = (
            "real: ",
            "dense codec, vocoder: ",
            "dense_gan, seed 0, piece ",
            "true spectrum, Griffin-Lim: ",
        )
        assert len(titles) == 4
        assert all(title.startswith(start) for title, start in zip(titles, starts, strict=True))


def test_the_way_between_two_tracks_begins_and_ends_with_their_reconstructions(
    folder: Path, trained: Trained
) -> None:
    dataset = Dataset(trained.store, trained.dataset)
    (first, _), (second, _) = rows.excerpts(trained.store, dataset, "mix")
    ends = [audio.read_wav(folder / f"between-{k}.flac")[0] for k in (0, 4)]
    for excerpt, wav in zip((first, second), ends, strict=True):
        own = excerpt.at(FEATURE)
        assert wav.shape[1] == own.shape[1]
        assert np.corrcoef(level(own[0]), level(wav[0]))[0, 1] > 0.5, excerpt.title
    loudness = [audio.loudness_lufs(wav, FEATURE.sample_rate) for wav in ends]
    assert loudness[0] == pytest.approx(loudness[1], abs=0.5)


def level(wav: np.ndarray) -> np.ndarray:
    """RMS of pieces of 0.1 s."""
    pieces = wav[: len(wav) // 2205 * 2205].reshape(-1, 2205)
    return np.sqrt(np.square(pieces).mean(axis=1))


def test_the_music_is_a_table_and_a_picture(folder: Path, page: str) -> None:
    assert (folder / "dense_gan-music.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    text = " ".join(_Page(page).text.split())
    assert "form of excerpts of 8.0 s" in text
    cells = ("0.50 <small>[0.30, 0.70]</small>", "0.50", "0.00", "0.00", "0.00", "")
    row = "".join(re.findall(r"<tr><td>pulse_clarity.*?</tr>", page, re.DOTALL)[0].splitlines())
    assert row.endswith("".join(f"<td>{cell}</td>" for cell in cells) + "</tr>")
    assert "tempo_stability" in text


def test_titles_of_strangers_are_text(page: str) -> None:
    found = _Page(page)
    assert found.text.count(HOSTILE) >= 9
    assert any(HOSTILE in (sound["data-title"] or "") for sound in found.sounds)
    assert page.count("<script") == 1


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
    # Three generated, three versions of two test tracks, five between them, three of timbre, three stems.
    assert len(sounds) == 3 + 3 * 2 + 5 + 3 + 3
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
    # Three generated of each; of two test tracks real, vocoder, two codecs; between them, timbre and stems.
    assert made.metrics["sounds"] == 2 * 3 + 2 * 4 + 5 + 3 + 3
    names = {p.name for p in folder.iterdir()} - {"index.html", "artifact.json"}
    references = _Page((folder / "index.html").read_text("utf-8")).references
    assert names == {r for r in references if not r.startswith(("#", "data:,"))}


def test_rendering_twice_is_a_no_op(trained: Trained, folder: Path) -> None:
    before = (folder / "index.html").stat().st_mtime_ns
    render(trained.dataset, [entry(trained)], trained.store)
    assert (folder / "index.html").stat().st_mtime_ns == before
