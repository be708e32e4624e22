"""The files of onnxruntime-web, from npm by version and hash, kept in the user's cache."""

from __future__ import annotations

import hashlib
import io
import tarfile
from pathlib import Path

import requests

from melodygan_core.errors import InputError, TransientError
from melodygan_core.storage import replacing

VERSION = "1.30.0"
# As npm publishes it for this version.
TARBALL_SHA512 = (
    "ab4cbe26baedba45d2cec05610c71c55fa97db92d19a8b171c5f8269126683ca"
    "590a5cdc57bb2f35ce2b298de32f4d956fb42644c0ecd528a0a91e025c07ca61"
)
# What the page needs of it, and their SHA-256. The first holds the loader of the second.
FILES = {
    "ort.wasm.bundle.min.mjs": "11e64bd8ffe11bd1a2a2f0d6275fdfbbba7262f0b76b99b53d228a8a22ef3d90",
    "ort-wasm-simd-threaded.wasm": "3398c10d07d229bd91b364548e130e0e51a8e5704b88c7c083ebbeb78842dee2",
}
_FOLDER = "package/dist/"
_MAX_BYTES = 100_000_000
_TIMEOUT_S = 60.0


def default_cache() -> Path:
    """The folder of the user's cache that the files are kept in."""
    return Path.home() / ".cache" / "melodygan" / f"onnxruntime-web-{VERSION}"


def is_cached(cache: Path) -> bool:
    """Whether a folder holds the files, as hashed."""
    return all((cache / name).is_file() and _sha256(cache / name) == digest for name, digest in FILES.items())


def files(registry: str, cache: Path | None = None) -> dict[str, Path]:
    """The files by name, fetched if the cache does not have them.

    Args:
        registry: URL of an npm registry.
        cache: Folder that keeps them; the user's cache by default.

    Raises:
        TransientError: the registry cannot be reached.
        InputError: the registry has another file than the one that was hashed.
    """
    folder = cache or default_cache()
    if not is_cached(folder):
        _extract(_fetch(f"{registry.rstrip('/')}/onnxruntime-web/-/onnxruntime-web-{VERSION}.tgz"), folder)
    return {name: folder / name for name in FILES}


def _fetch(url: str) -> bytes:
    try:
        with requests.get(url, timeout=_TIMEOUT_S, stream=True) as answer:
            answer.raise_for_status()
            content = answer.raw.read(_MAX_BYTES, decode_content=False)
    except (requests.RequestException, OSError) as error:
        raise TransientError(
            f"onnxruntime-web {VERSION} cannot be fetched from npm ({type(error).__name__}): connect to a"
            f" network once, or put {' and '.join(FILES)} of its `dist` folder into a folder for --ort-dir"
        ) from error
    found = hashlib.sha512(content).hexdigest()
    if found != TARBALL_SHA512:
        raise InputError(f"SHA-512 of {url} must be {TARBALL_SHA512[:16]}..., got {found[:16]}...")
    return content


def _extract(tarball: bytes, folder: Path) -> None:
    """Writes the files of a tarball whose hash is right; no name of the tarball becomes a path."""
    with tarfile.open(fileobj=io.BytesIO(tarball), mode="r:gz") as archive:
        for name, digest in FILES.items():
            member = archive.extractfile(_FOLDER + name)
            content = b"" if member is None else member.read()
            assert hashlib.sha256(content).hexdigest() == digest, "the tarball's hash is right"
            with replacing(folder / name) as temporary:
                temporary.write_bytes(content)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
