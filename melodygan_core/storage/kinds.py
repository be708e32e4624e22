"""Every kind of file and folder in a store, declared once: its path, its lock, the file that is written last.

`Layout` builds paths from these declarations, `parse` reads them back, and the check, the repair and the
erasure of a store follow from that. Nothing else interprets a path.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from string import Formatter
from typing import Literal
from urllib.parse import quote, unquote

ARTIFACT_FILE = "artifact.json"
# Writers build a file or folder under such a name beside its place, and rename it when it is complete.
TEMPORARY = re.compile(r"^\.[0-9a-f]{8}-(.+)$")
# Version 0.1 named samples, evaluations and releases after these; later versions name them after pipelines.
OLD_FAMILIES = ("dense", "temporal")

Scratch = Literal["", "temporary", "training", "cache"]


@dataclass(frozen=True)
class Field:
    """How one field of a path template is written.

    Attributes:
        pattern: Regular expression of the written value.
        encode: Value to text.
        decode: Text to value; the inverse.
    """

    pattern: str = r"[^/.]+"
    encode: Callable[[str], str] = str
    decode: Callable[[str], str] = str


# Fields that are not named here are words without a slash or dot.
FIELDS = {
    "asset": Field(r"[^/]+", lambda name: name.replace("/", "."), lambda text: text.replace(".", "/")),
    "copied": Field(r"[^/]+", lambda uri: quote(uri, safe=""), unquote),
    "pictured": Field(r".+"),
    # The folders that all versions of the dataset share are no versions.
    "version": Field(r"(?!(?:shards|health)(?:/|$))[^/.]+"),
}


@dataclass(frozen=True, eq=False)
class Kind:
    """One kind of file or folder.

    Attributes:
        name: What it is, in plain English.
        path: Template relative to the store's root; a folder ends with a slash. Paths below `work/` lie on the
            machine that writes them, whatever the store is.
        lock: Template of the lock that its writer holds; its own path by default.
        marker: File of the folder that is written last: without it the folder is incomplete.
        remake: What the next run does where it is missing, such as `fetches it again`.
        track_files: Templates of files inside the folder that belong to one track.
        scratch: `temporary` is of no use once its writer is gone; `training` is what a killed training resumes
            from; `cache` is kept. Empty for what is not scratch.
    """

    name: str
    path: str
    lock: str = ""
    marker: str = ""
    remake: str = ""
    track_files: tuple[str, ...] = ()
    scratch: Scratch = ""

    @property
    def is_folder(self) -> bool:
        """Whether it is a folder."""
        return self.path.endswith("/")

    @property
    def top(self) -> str:
        """First part of its path."""
        return self.path.split("/", 1)[0]

    @cached_property
    def parts(self) -> int:
        """Number of parts of its path, if no field has a slash."""
        return self.path.rstrip("/").count("/") + 1

    @cached_property
    def pattern(self) -> re.Pattern[str]:
        """Matches the whole path of a file, or of a folder and anything inside it."""
        inside = r"(?:/(?P<inside>.*))?" if self.is_folder else ""
        return re.compile(_regex(self.path.rstrip("/")) + inside, re.DOTALL)

    @cached_property
    def glob(self) -> str:
        """Matches at least its paths."""
        return "".join(text + ("*" if name else "") for text, name in _pieces(self.path.rstrip("/")))

    def uri(self, **fields: str) -> str:
        """Its path relative to the store's root."""
        encoded = {name: FIELDS.get(name, Field()).encode(value) for name, value in fields.items()}
        return self.path.format(**encoded).rstrip("/")


def _pieces(template: str) -> list[tuple[str, str | None]]:
    return [(text, name) for text, name, _, _ in Formatter().parse(template)]


def _regex(template: str) -> str:
    return "".join(
        re.escape(text) + (f"(?P<{name}>{FIELDS.get(name, Field()).pattern})" if name else "")
        for text, name in _pieces(template)
    )


def _decoded(groups: Mapping[str, str | None]) -> dict[str, str]:
    return {name: FIELDS.get(name, Field()).decode(text) for name, text in groups.items() if text is not None}


CATALOGUE = Kind("catalogue", "catalogue.parquet", lock="catalogue")
FORGOTTEN = Kind("list of forgotten tracks", "forgotten.json", lock="catalogue")
MARK = Kind("mark of an artifact with forgotten tracks", "marks/{asset}/{version}.json")

RAW_WAV = Kind("raw wav", "raw/{track_id}.wav", lock="raw/{track_id}", remake="fetches it again")
# Written after the wav: where it exists, the wav is complete.
RAW_JSON = Kind("provenance", "raw/{track_id}.json", lock="raw/{track_id}", remake="fetches it again")
RAW_ERROR = Kind("permanent failure", "raw/{track_id}.error.json", lock="raw/{track_id}")
FINGERPRINT = Kind("fingerprint", "fingerprints/{track_id}.json", remake="computes it again")
STEMS = Kind("stems", "stems/{model_id}/{track_id}/", marker="stems.json", remake="separates the track again")
FEATURES = Kind("feature table", "features/{feature_id}/{track_id}.parquet", remake="extracts it again")

SHARDS = Kind("shards", "dataset/shards/{dataset_id}/", lock="dataset", remake="packs the features again")
HEALTH = Kind("dataset health", "dataset/health/{dataset_id}.json", lock="dataset")
SPLITS = Kind("splits", "dataset/splits.json", lock="dataset")
GROUPS = Kind("groups", "dataset/groups.json", lock="dataset", remake="compares the tracks again")
REPORT = Kind("report of the last assembly", "dataset/report.json", lock="dataset", remake="writes it again")
DATASET = Kind("dataset", "dataset/{version}/", marker=ARTIFACT_FILE, remake="assembles it again")

MODEL = Kind("model", "models/{group}/{stage}/{version}/", marker=ARTIFACT_FILE, remake="trains it again")
SAMPLES = Kind("samples", "samples/{pipeline}/{version}/", marker=ARTIFACT_FILE, remake="generates them again")
EVALUATION = Kind(
    "evaluation", "evaluations/{pipeline}/{version}/", marker=ARTIFACT_FILE, remake="evaluates the models again"
)
RELEASE = Kind("release", "releases/{pipeline}/{version}/", marker=ARTIFACT_FILE, remake="publishes it again")
GALLERY = Kind("gallery", "gallery/{version}/", marker=ARTIFACT_FILE, remake="renders it again")
RECORD = Kind("record", "records/{asset}.json", remake="writes it again")
# A job's sounds; `augment` names the variations of the store's own tracks after them.
USE = Kind(
    "result of a job",
    "uses/{job}/{run_id}/",
    marker="use.json",
    track_files=("data/{track_id}.{copy}.wav", ".melodygan/rows/{track_id}.{copy}.json"),
)
PICTURE = Kind("picture", "pictures/{pictured}.png", remake="draws it again")
DAGSTER = Kind("Dagster's instance", "dagster/")

# Of the web interface: what was asked for, what was uploaded, and which sounds somebody likes.
STUDIO_JOB = Kind("job of the studio", "studio/jobs/{job_id}.json")
UPLOAD = Kind("uploaded sound", "studio/uploads/{upload_id}/")
# A `path:` source names it.
ADDED_FILE = Kind("added file", "studio/files/{file_id}/")
STARS = Kind("list of starred sounds", "studio/stars.json")

TRAINING_STATE = Kind(
    "training state",
    "work/training/{group}/{stage}/{version}/",
    lock="models/{group}/{stage}/{version}",
    scratch="training",
)
OLD_TRAINING_STATE = Kind(
    "training state of version 0.1",
    "work/{group}.{stage}.{version}/",
    lock="models/{group}/{stage}/{version}",
    scratch="training",
)
# What a model made at a validation, of sound that it learns from: it goes when such a track is erased.
TRAINING_SOUND = Kind("sound of a training", "work/heard/{asset}/{step}.wav", scratch="training")
TRACK_SCRATCH = Kind(
    "scratch of a download", "work/scratch/{track_id}.{random}/", lock="raw/{track_id}", scratch="temporary"
)
SEPARATION_SCRATCH = Kind(
    "scratch of a separation",
    "work/separation/{model_id}/{track_id}.{random}/",
    lock="stems/{model_id}/{track_id}",
    scratch="temporary",
)
SCRATCH = Kind("scratch", "work/scratch/{random}/", scratch="temporary")
# Its lock is that of what it is a copy of.
COPY = Kind("local copy", "work/copies/{copied}.{random}/", scratch="temporary")
SHARD_COPY = Kind("local copy of a shard", "work/shards/{shard}.arrow", scratch="cache")
# What a page shows of a sound; computed again when missing.
SOUND_PEAKS = Kind("peaks of a sound", "work/views/{sound_id}.json", scratch="cache")
SOUND_PICTURE = Kind("spectrogram of a sound", "work/views/{sound_id}.png", scratch="cache")
LOCK = Kind("lock", "work/locks/{digest}.lock", scratch="cache")

KINDS = (
    CATALOGUE, FORGOTTEN, MARK, RAW_WAV, RAW_JSON, RAW_ERROR, FINGERPRINT, STEMS, FEATURES, SHARDS, HEALTH,
    SPLITS, GROUPS, REPORT, DATASET, MODEL, SAMPLES, EVALUATION, RELEASE, GALLERY, RECORD, USE, PICTURE,
    DAGSTER, STUDIO_JOB, UPLOAD, ADDED_FILE, STARS, TRAINING_STATE, OLD_TRAINING_STATE, TRAINING_SOUND,
    TRACK_SCRATCH, SEPARATION_SCRATCH, SCRATCH, COPY, SHARD_COPY, SOUND_PEAKS, SOUND_PICTURE, LOCK,
)  # fmt: skip
UNKNOWN = Kind("unknown", "")
ARTIFACTS = tuple(kind for kind in KINDS if kind.marker == ARTIFACT_FILE)
MARKERS = tuple(dict.fromkeys(kind.marker for kind in KINDS if kind.marker))
# Not made by the stages: their scratch, and Dagster's database.
NOT_ARTIFACTS = (LOCK.top, DAGSTER.top)

_BY_TOP = {top: tuple(k for k in KINDS if k.top == top) for top in {k.top for k in KINDS}}


@dataclass(frozen=True)
class Parsed:
    """What a path of a store is.

    Attributes:
        kind: Its kind, or UNKNOWN.
        fields: Values of the fields of the kind's path.
        uri: The file, or the folder of the kind that the path lies in, relative to the store's root.
        inside: Path inside that folder; empty for the folder itself and for files.
        temporary: The unfinished file or folder that the path is or lies in; empty for what is complete.
        path: The path that was parsed.
    """

    kind: Kind
    fields: dict[str, str] = field(hash=False)
    uri: str
    inside: str
    temporary: str
    path: str

    @property
    def lock(self) -> str:
        """Name of the lock that its writer holds."""
        if "copied" in self.fields:
            return parse(self.fields["copied"]).lock
        return (self.kind.lock or self.kind.path.rstrip("/")).format(
            **{name: FIELDS.get(name, Field()).encode(value) for name, value in self.fields.items()}
        ) or final(self.path)

    @property
    def track_id(self) -> str:
        """The track that it belongs to; empty where it belongs to none or to several."""
        if "track_id" in self.fields:
            return self.fields["track_id"]
        if "copied" in self.fields:
            return parse(self.fields["copied"]).track_id
        if "pictured" in self.fields:
            # A picture is named after what it shows, without its suffix.
            pictured = (parse(self.fields["pictured"] + suffix).track_id for suffix in ("", ".parquet", ".wav"))
            return next(filter(None, pictured), "")
        return self._track_file.get("track_id", "")

    @property
    def track_uri(self) -> str:
        """The file or folder that is removed with its track."""
        return self.temporary or (self.path if self._track_file else self.uri)

    @property
    def _track_file(self) -> dict[str, str]:
        for template in self.kind.track_files:
            if match := re.fullmatch(_regex(template), self.inside):
                return _decoded(match.groupdict())
        return {}


def parse(uri: str) -> Parsed:
    """The kind and fields of a path relative to a store's root; UNKNOWN for a path of no kind.

    Unfinished files and folders are of the kind that they become.
    """
    parts, complete = uri.split("/"), final(uri)
    first = next((i for i, part in enumerate(parts) if TEMPORARY.match(part)), None)
    temporary = "" if first is None else "/".join(parts[: first + 1])
    for kind in _BY_TOP.get(complete.split("/", 1)[0], ()):
        if match := kind.pattern.fullmatch(complete):
            groups = match.groupdict()
            inside = groups.pop("inside", None) or ""
            root = "/".join(parts[: kind.parts]) if kind.is_folder else uri
            return Parsed(kind, _decoded(groups), root, inside, temporary, uri)
    return Parsed(UNKNOWN, {}, uri, "", temporary, uri)


def lock_name(uri: str) -> str:
    """Name of the lock that the writer of a path holds, finished or not."""
    return parse(uri).lock


def final(uri: str) -> str:
    """The path that an unfinished file or folder gets when it is complete; any other path unchanged."""
    return "/".join(m[1] if (m := TEMPORARY.match(part)) else part for part in uri.split("/"))
