from __future__ import annotations

import re
import subprocess
import tempfile
from datetime import UTC
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from melodygan_core import catalogue
from melodygan_core.catalogue import Source, canonical_url, read_sources, track_id
from melodygan_core.config import CatalogueConfig
from melodygan_core.demo.server import serve
from melodygan_core.errors import InputError
from melodygan_core.storage import Store

if TYPE_CHECKING:
    from tests.conftest import Site

LOOPBACK = CatalogueConfig(allow_private=True, timeout_s=60)


def write(path: Path, text: str) -> Path:
    path.write_text(text, "utf-8")
    return path


def rss(*items: tuple[str, str]) -> bytes:
    body = "".join(f'<item><title>{t}</title><enclosure url="{u}" type="audio/wav"/></item>' for t, u in items)
    return f'<rss version="2.0"><channel><title>F</title>{body}</channel></rss>'.encode()


# Reading sources.


def test_yaml_and_plain_lists_are_read(tmp_path: Path) -> None:
    path = write(
        tmp_path / "sources.yaml",
        "sources:\n- https://a.example/x.mp3\n- my music\n- url: https://b.example/feed\n  licence: CC BY 4.0\n"
        "  rights: open\n  tags: [calm, piano]\n  max_items: 5\n- path: own\n  rights: own\n",
    )
    assert read_sources(path) == [
        Source(url="https://a.example/x.mp3"),
        Source(path="my music"),
        Source(
            url="https://b.example/feed",
            licence="CC BY 4.0",
            rights="open",
            tags=("calm", "piano"),
            max_items=5,
        ),
        Source(path="own", rights="own"),
    ]
    plain = write(tmp_path / "sources.txt", "# mine\nhttps://a.example/x#t  # a song\n\n  own/song.wav\n")
    assert read_sources(plain) == [Source(url="https://a.example/x#t"), Source(path="own/song.wav")]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "sources:\n- url: https://a.example\n  rights: free\n",
            "line 2: rights must be own, licensed, open, unknown, got 'free'",
        ),
        ("sources:\n- https://a.example\n- ytsearch:x\n", "line 3: url must be http:// or https://"),
        ("sources:\n- file:///etc/passwd\n", "file:///etc/passwd"),
        ("sources:\n- ftp://a.example/x\n", "ftp://a.example/x"),
        ("sources:\n- {url: 'https://a.example', max_items: many}\n", "max_items must be 1 to 100000, got"),
        ("sources:\n- url: https://a.example\n  max_items: 0\n", "max_items must be 1 to 100000, got 0"),
        ("sources:\n- {url: 'https://a.example', path: x}\n", "exactly one"),
        ("sources:\n- {colour: red}\n", "must be url, path, licence, rights, tags, max_items, got 'colour'"),
        ("sources:\n- https://me:secret@a.example/\n", "user name"),
        ("sources:\n- [a]\n", "must be a string or a mapping"),
        ("sources: &a [x]\nmore: *a\n", "line 2: an alias"),
        ("sources: " + "[" * 5000, "nested"),
        ("sources:\n- 'a\n", "line 2: not valid YAML"),
        ("sources:\n- url: https://a.example\n  url: https://b.example\n", "line 3: 'url' for the second time"),
        ("sources: [a]\nsources: [b]\n", "line 2: 'sources' for the second time"),
        ("sources:\n\t- a\n", "line 2: not valid YAML: found character that cannot start any token"),
        ("sources:\n- \x01\n", "line 2: not valid YAML: control characters are not allowed"),
        ("sources:\n- !!python/object:os.system {}\n", "line 2: a tag, 'tag:yaml.org,2002:python/object:os"),
        ("sources:\n- ? [a]\n  : b\n", "line 2: a key that is a list or mapping"),
        ("\ufeffsources:\n- {rights: free, path: a}\n", "line 2: rights must be own"),
        ("tracks: []\n", "one key `sources:`"),
        ("", "one key `sources:`"),
    ],
)
def test_invalid_sources_name_the_line_and_the_allowed_values(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        read_sources(write(tmp_path / "sources.yaml", text))


def test_a_secret_in_a_url_is_not_repeated_in_the_error() -> None:
    with pytest.raises(InputError) as caught:
        canonical_url("https://me:secret@a.example/")
    assert "secret" not in str(caught.value)


def test_too_large_missing_and_undecodable_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="1000000"):
        read_sources(write(tmp_path / "big.txt", "#" * 1_000_001))
    with pytest.raises(InputError, match="not a readable"):
        read_sources(tmp_path / "none.yaml")
    (tmp_path / "bytes.txt").write_bytes(b"good\n\xff\xfe\x00")
    with pytest.raises(InputError, match=r"bytes\.txt is not a readable UTF-8 file: line 2"):
        read_sources(tmp_path / "bytes.txt")
    with pytest.raises(InputError, match="it is a folder or a device"):
        read_sources(tmp_path)
    with pytest.raises(InputError, match="it is a folder or a device"):
        read_sources(Path("/dev/zero"))


@given(st.sampled_from([".yaml", ".txt"]), st.one_of(st.text(), st.text().map(lambda t: f"sources:\n- {t}\n")))
@example(".yaml", "sources:\n- ? [a]\n  : b\n")
@example(".yaml", "sources:\n- !!python/object:os.system {}\n")
@example(".yaml", "sources: [a]\nsources: [b, c]\n")
@example(".yaml", "sources:\n- url: https://[::1\n")
def test_any_text_gives_sources_or_an_input_error(suffix: str, text: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"sources{suffix}"
        path.write_bytes(text.encode("utf-8", "surrogatepass"))
        try:
            sources = read_sources(path)
        except InputError as error:
            assert re.search("must|allowed|not", str(error))
        else:
            assert all(bool(s.url) != bool(s.path) and s.source_id for s in sources)


# Names.


URLS = st.builds(
    "{}://{}{}/{}?{}#{}".format,
    st.sampled_from(["http", "https", "HTTP", "Https"]),
    st.sampled_from(["a.example", "A.Example", "bücher.example", "[2001:db8::1]", "10.0.0.1"]),
    st.sampled_from(["", ":80", ":443", ":8000"]),
    st.text(st.characters(min_codepoint=0x21, max_codepoint=0x2FFF, exclude_categories=["Cs", "Cc", "Z"])),
    st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), max_size=9),
    st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), max_size=9),
)


@given(URLS, URLS, st.text(max_size=60), st.text(max_size=200))
def test_track_ids_are_safe_and_as_different_as_their_urls(
    a: str, b: str, extractor: str, site_id: str
) -> None:
    first, second = canonical_url(a), canonical_url(b)
    assert canonical_url(first) == first
    assert first.isascii()
    names = [track_id(extractor, site_id, url) for url in (first, second, first)]
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{1,100}", name) for name in names)
    assert names[0] == names[2]
    assert (names[0] == names[1]) == (first == second)


def test_spellings_of_one_url_are_one() -> None:
    spellings = ["HTTPS://A.Example:443/x?a=1#top", "https://a.example/x?a=1", "https://a.example:443/x?a=1#b"]
    assert {canonical_url(u) for u in spellings} == {"https://a.example/x?a=1"}


# Expansion.


@pytest.mark.slow
def test_link_page_and_feed_give_one_row_per_track_and_a_rerun_changes_nothing(
    tmp_path: Path, store: Store, tone: bytes
) -> None:
    songs = tmp_path / "songs"
    songs.mkdir()
    for name in ("a b.wav", "ünï🎵.wav"):
        (songs / name).write_bytes(tone)
    with serve(songs) as base_url:
        sources = write(
            tmp_path / "sources.yaml",
            f"sources:\n- url: {base_url}/feed.xml\n  tags: [feed]\n- {base_url}/\n"
            f"- url: {base_url}/a%20b.wav\n  rights: open\n  licence: CC0\n  tags: [link]\n",
        )
        report = catalogue.expand(sources, store, LOOPBACK)
        content = store.catalogue().read_bytes()
        again = catalogue.expand(sources, store, LOOPBACK)
    assert report.failed_sources == {}
    assert report.per_source == {f"{base_url}/feed.xml": 2, f"{base_url}/": 2, f"{base_url}/a%20b.wav": 1}
    assert [t.title for t in report.tracks] == ["a b", "ünï🎵"]
    assert [t.url for t in report.tracks] == [
        f"{base_url}/a%20b.wav",
        f"{base_url}/%C3%BCn%C3%AF%F0%9F%8E%B5.wav",
    ]
    first = report.tracks[0]
    assert (first.rights, first.licence, first.tags) == ("open", "CC0", ("feed", "link"))
    assert (first.status, first.first_seen.tzinfo) == ("listed", UTC)
    assert report.new == [t.track_id for t in report.tracks]
    assert (again.tracks, again.new) == (report.tracks, [])
    assert store.catalogue().read_bytes() == content
    assert catalogue.load(store) == report.tracks


@pytest.mark.slow
def test_a_failed_source_keeps_its_rows_and_the_rest_continue(
    tmp_path: Path, store: Store, site: Site, tone: bytes
) -> None:
    one, two, three = (site.add(f"/{n}.wav", tone) for n in (1, 2, 3))
    feed = site.add("/feed.xml", rss(("One", one), ("Two", two)), content_type="application/rss+xml")
    sources = write(tmp_path / "sources.txt", f"{feed}\n")
    before = catalogue.expand(sources, store, LOOPBACK)

    site.add("/feed.xml", status=(503,))
    write(sources, f"{feed}\n{three}\n")
    report = catalogue.expand(sources, store, LOOPBACK)
    assert list(report.failed_sources) == [feed]
    assert "503" in report.failed_sources[feed]
    assert report.tracks[:2] == before.tracks
    assert [t.url for t in report.tracks] == [one, two, three]
    assert report.new == [report.tracks[2].track_id]

    site.add("/feed.xml", rss(("Two", two)), content_type="application/rss+xml")
    after = catalogue.expand(sources, store, LOOPBACK)
    assert [t.status for t in after.tracks] == ["unlisted", "listed", "listed"]
    assert [t.first_seen for t in after.tracks] == [t.first_seen for t in report.tracks]


def test_untrusted_text_and_links_are_only_data(tmp_path: Path, store: Store, site: Site, tone: bytes) -> None:
    title = "../../&lt;script&gt;alert(1)&lt;/script&gt;/{0}%(id)s 🎵" + "x" * 900
    items = [(title, site.add("/x/song.wav", tone)), ("Same name", site.add("/y/song.wav", tone))]
    items += [("passwd", "file:///etc/passwd"), ("search", "ytsearch:x"), ("ftp", "ftp://127.0.0.1/x")]
    feed = site.add("/feed.xml", rss(*items), content_type="text/xml")
    report = catalogue.expand(write(tmp_path / "s.txt", feed), store, LOOPBACK)
    assert [t.url for t in report.tracks] == [u for _, u in items[:2]]
    assert report.tracks[0].title.startswith("../../<script>alert(1)</script>/{0}%(id)s 🎵xxx")
    assert len(report.tracks[0].title) == 300
    assert len({t.track_id for t in report.tracks}) == 2


def test_private_sources_are_refused_and_max_items_holds(tmp_path: Path, store: Store, site: Site) -> None:
    items = [(f"Song {n}", f"{site.base_url}/{n}.wav") for n in range(9)]
    feed = site.add("/feed.xml", rss(*items), content_type="text/xml")
    sources = write(tmp_path / "s.yaml", f"sources:\n- url: {feed}\n  max_items: 3\n")
    refused = catalogue.expand(sources, store, CatalogueConfig())
    assert "loopback" in refused.failed_sources[feed]
    assert site.hits["/feed.xml"] == 0
    assert [t.title for t in catalogue.expand(sources, store, LOOPBACK).tracks] == [
        "Song 0",
        "Song 1",
        "Song 2",
    ]


def test_local_files_must_be_below_an_allowed_root(tmp_path: Path, store: Store, tone: bytes) -> None:
    inside, outside = tmp_path / "in" / "music", tmp_path / "out"
    (inside / "more").mkdir(parents=True)
    outside.mkdir()
    for path in (inside / "b é.wav", inside / "more" / "a.flac", inside / "notes.txt", outside / "secret.wav"):
        path.write_bytes(tone)
    (inside / "link.wav").symlink_to(outside / "secret.wav")
    (tmp_path / "in" / "door").symlink_to(outside)
    sources = write(
        tmp_path / "in" / "s.yaml",
        "sources:\n- {path: music, rights: own}\n- path: ../out\n- path: door\n- path: none\n"
        "- path: music/more/a.flac\n",
    )
    report = catalogue.expand(sources, store, CatalogueConfig())
    assert [(t.title, t.rights) for t in report.tracks] == [("b é", "own"), ("a", "own")]
    assert catalogue.local_path(report.tracks[0].url) == (inside / "b é.wav").resolve()
    assert set(report.failed_sources) == {"music", "../out", "door", "none"}
    assert "link.wav" in report.failed_sources["music"]
    wider = CatalogueConfig(allowed_roots=(str(tmp_path),))
    assert len(catalogue.expand(sources, store, wider).tracks) == 3


def test_links_in_a_circle_and_deep_folders_are_named_and_the_rest_continue(
    tmp_path: Path, store: Store, tone: bytes
) -> None:
    music = tmp_path / "music"
    (music / "more").mkdir(parents=True)
    for path in (music / "good.wav", music / "more" / "last.wav", tmp_path / "other.wav"):
        path.write_bytes(tone)
    (music / "a.wav").symlink_to("b.wav")
    (music / "b.wav").symlink_to("a.wav")
    (music / "gone.wav").symlink_to("none.wav")
    (music / "more" / "up").symlink_to(music)
    deep = music
    for _ in range(1200):
        # mkdir(parents=True) exceeds Python's stack.
        deep /= "d"
        deep.mkdir()
    (deep / "deep.wav").write_bytes(tone)
    (tmp_path / "circle").symlink_to("circle")
    sources = write(tmp_path / "s.txt", "music\ncircle\nmusic/a.wav\nother.wav\n")
    try:
        report = catalogue.expand(sources, store, CatalogueConfig())
        with pytest.raises(InputError, match=r"allowed_roots must be folders, got .*circle"):
            catalogue.expand(sources, store, CatalogueConfig(allowed_roots=(str(tmp_path / "circle"),)))
    finally:
        # shutil.rmtree, which pytest uses, exceeds Python's stack.
        subprocess.run(["rm", "-rf", str(music / "d")], check=True)
    assert [t.title for t in report.tracks] == ["good", "last", "other"]
    assert set(report.failed_sources) == {"music", "circle", "music/a.wav"}
    reason = report.failed_sources["music"]
    assert reason.startswith("4 files or folders cannot be read, such as 'a.wav': ")
    assert "path must be a file or folder, got 'circle'" in report.failed_sources["circle"]
    assert len(reason) < 200


def test_a_folder_deeper_than_the_limit_is_named(tmp_path: Path, store: Store, tone: bytes) -> None:
    for depth in (100, 101):
        folder = tmp_path / "music" / str(depth) / Path(*["d"] * (depth - 1))
        folder.mkdir(parents=True)
        (folder / "song.wav").write_bytes(tone)
    (tmp_path / "music" / "101" / "a.wav").write_bytes(tone)
    report = catalogue.expand(write(tmp_path / "s.txt", "music"), store, CatalogueConfig())
    assert [Path(t.url).parts[-2] for t in report.tracks] == ["d", "101"]
    assert "folders must be nested at most 100 deep, got '101/d/d/" in report.failed_sources["music"]


def test_a_missing_catalogue_is_empty(store: Store) -> None:
    assert catalogue.load(store) == []


def test_the_demo_site_serves_only_listed_files(tmp_path: Path, tone: bytes) -> None:
    songs = tmp_path / "songs"
    songs.mkdir()
    (songs / "<b>&.wav").write_bytes(tone)
    (songs / "notes.txt").write_text("private")
    with serve(songs) as base_url:
        page = urlopen(base_url).read().decode()
        assert "<b>" not in page
        assert '<audio controls src="/%3Cb%3E%26.wav">' in page
        assert urlopen(f"{base_url}/%3Cb%3E%26.wav").read() == tone
        assert f'length="{len(tone)}"' in urlopen(f"{base_url}/feed.xml").read().decode()
        for path in ("/notes.txt", "/../tone.wav", "/%2e%2e/tone.wav", "/none.wav"):
            with pytest.raises(HTTPError, match="404"):
                urlopen(base_url + path)
    with pytest.raises(InputError, match="existing folder"), serve(tmp_path / "none"):
        pass


def test_the_demo_site_answers_range_requests(tmp_path: Path, tone: bytes) -> None:
    (tmp_path / "a.wav").write_bytes(tone)
    with serve(tmp_path) as base_url:
        part = urlopen(Request(f"{base_url}/a.wav", headers={"Range": "bytes=100-199"}))
        head = urlopen(Request(f"{base_url}/a.wav", method="HEAD"))
    assert (part.status, part.read()) == (206, tone[100:200])
    assert (head.headers["Content-Length"], head.headers["Content-Type"]) == (str(len(tone)), "audio/wav")


def test_a_taken_port_names_itself(tmp_path: Path) -> None:
    with serve(tmp_path) as url:
        port = int(url.rsplit(":", 1)[1])
        with pytest.raises(InputError, match=f"port .*{port}, taken already"), serve(tmp_path, port):
            pass
