"""The sources file is changed by one entry, and nothing else of it changes."""

from __future__ import annotations

from pathlib import Path

import pytest

from melodygan_core.catalogue import Source, add_source, read_sources, remove_source
from melodygan_core.errors import InputError

NEW = Source(url="https://new.example/1", licence="CC BY 4.0", rights="open", tags=("calm", "piano"))
FORMS = {
    "empty list": "sources: []\n",
    "comments": "# mine\nsources:\n  - https://a.example/x # a\n  # b\n  - path: b\n    rights: own\n\n# z\n",
    "no indentation, no last line end": "sources:\n- https://a.example/x\n- path: b",
    "Windows": "sources:\r\n  - https://a.example/x\r\n  - url: https://b.example/\r\n    rights: own\r\n",
    "block text": "sources:\n- url: https://a.example/\n  licence: |\n    some\n    text\n",
    "flow list": "sources: [https://a.example/x, {path: b, rights: own}]\n",
    "flow list with a last comma": "sources: [\n  https://a.example/x,\n]\n",
}
# Text of strangers that means something to YAML, and to pages.
STRANGE = (
    "a: b",
    "- x",
    "# no comment",
    "'\"\\",
    "{{ 7 * 7 }}",
    "!!python/object:os.system",
    "&a *a",
    "null",
    "0x10",
    "|",
    "é 日本 😀",
    "<script>alert(1)</script>",
    "%TAG",
    "--- x",
    "a" * 5000,
)


def written(folder: Path, text: str) -> Path:
    path = folder / "sources.yaml"
    path.write_bytes(text.encode())
    return path


@pytest.mark.parametrize("text", FORMS.values(), ids=FORMS.keys())
def test_an_entry_is_added_and_the_lines_before_stay(tmp_path: Path, text: str) -> None:
    path = written(tmp_path, text)
    before = read_sources(path)
    add_source(path, NEW)
    assert read_sources(path) == [*before, NEW]
    if "[" not in text:
        assert path.read_bytes().startswith(text.encode().rstrip(b"\r\n"))
    assert [p.name for p in tmp_path.iterdir()] == ["sources.yaml"]


@pytest.mark.parametrize("text", [t for t in FORMS.values() if "[" not in t])
def test_an_entry_is_removed_again(tmp_path: Path, text: str) -> None:
    path = written(tmp_path, text)
    before = read_sources(path)
    add_source(path, NEW)
    remove_source(path, NEW)
    assert read_sources(path) == before
    for source in before:
        remove_source(path, source)
    assert read_sources(path) == []
    assert "# mine" in path.read_text() or "# mine" not in text


@pytest.mark.parametrize("text", STRANGE)
def test_strange_text_comes_back_as_it_was(tmp_path: Path, text: str) -> None:
    path = tmp_path / "new.yaml"
    add_source(path, Source(path=text[:400], licence=text, rights="own", tags=(text,)))
    [found] = read_sources(path)
    # The limits of lengths are those of the file.
    assert found.path == text[:400] and text.startswith(found.licence) and text.startswith(found.tags[0])
    assert found.licence and found.tags[0]


def test_a_file_that_does_not_exist_is_made(tmp_path: Path) -> None:
    add_source(tmp_path / "sub" / "sources.yaml", NEW)
    assert read_sources(tmp_path / "sub" / "sources.yaml") == [NEW]


def test_a_link_stays_a_link_and_a_mode_stays(tmp_path: Path) -> None:
    real = written(tmp_path, FORMS["comments"])
    real.chmod(0o640)
    link = tmp_path / "link.yaml"
    link.symlink_to(real)
    add_source(link, NEW)
    assert link.is_symlink() and real.stat().st_mode & 0o777 == 0o640
    assert read_sources(real)[-1] == NEW


@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [
        ("list.txt", "https://a.example/x\n", "sources must be a .yaml file"),
        ("s.yaml", "sources: 3\n", "must have one key `sources:`"),
        ("s.yaml", "sources:\n- ftp://x\n", "line 2: url must be"),
        ("s.yaml", "sources:\n- https://new.example:443/1#there\n", "which s.yaml lists already"),
        ("s.yaml", "sources:\n- a\n...\n", "not valid YAML"),
        ("s.yaml", "sources:\n- a\n# " + "x" * 999_950 + "\n", "at most 1000000 bytes"),
    ],
)
def test_what_cannot_be_changed_stays(tmp_path: Path, name: str, text: str, sentence: str) -> None:
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(InputError, match=sentence):
        add_source(path, NEW)
    assert path.read_text() == text


def test_only_what_is_listed_is_removed(tmp_path: Path) -> None:
    path = written(tmp_path, "sources: [a, b]\n")
    with pytest.raises(InputError, match=r"must be one that sources\.yaml lists"):
        remove_source(path, NEW)
    with pytest.raises(InputError, match="by hand"):
        remove_source(path, Source(path="a"))
