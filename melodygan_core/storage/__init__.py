"""The store: paths, atomic writes, locks and immutable artifacts below one root."""

from melodygan_core.storage.artifact import Artifact, check_hashes, dump_json, load_object, sha256_of
from melodygan_core.storage.files import replacing
from melodygan_core.storage.kinds import ARTIFACT_FILE, MARKERS
from melodygan_core.storage.layout import Layout
from melodygan_core.storage.listing import list_files
from melodygan_core.storage.store import Store

__all__ = [
    "ARTIFACT_FILE",
    "MARKERS",
    "Artifact",
    "Layout",
    "Store",
    "check_hashes",
    "dump_json",
    "list_files",
    "load_object",
    "replacing",
    "sha256_of",
]
