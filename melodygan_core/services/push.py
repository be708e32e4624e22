"""Pushes a release to a repository of the Hugging Face hub."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from melodygan_core.config import require
from melodygan_core.errors import InputError, MelodyGANError, TransientError, require_extra
from melodygan_core.services.releases import check_release

if TYPE_CHECKING:
    from melodygan_core.release import Manifest

README = "README.md"
# Identifiers of the hub for licences that sources name, in lower case; any other licence is `other`.
LICENCES = {
    "cc0-1.0": "cc0-1.0",
    "cc0": "cc0-1.0",
    "cc-by-3.0": "cc-by-3.0",
    "cc-by-4.0": "cc-by-4.0",
    "cc-by-sa-3.0": "cc-by-sa-3.0",
    "cc-by-sa-4.0": "cc-by-sa-4.0",
    "cc-by-nc-4.0": "cc-by-nc-4.0",
    "cc-by-nc-sa-4.0": "cc-by-nc-sa-4.0",
    "cc-by-nd-4.0": "cc-by-nd-4.0",
    "mit": "mit",
    "gpl-2.0-or-later": "gpl-2.0",
    "gpl-3.0-or-later": "gpl-3.0",
}
# Of the card's front matter; all sources are in the card's table and in the manifest.
MAX_SOURCES = 50
_REPO = re.compile(r"[\w-]{1,96}/[\w.-]{1,96}")
_LOGIN = "log in with `hf auth login`, or set HF_TOKEN to a token that may write"


def front_matter(manifest: Manifest) -> dict[str, Any]:
    """The metadata of a model card: licence, tags, library and sources.

    The licence is that of all sources where they have one that the hub knows; else it is `other`, and the
    card names all of them.
    """
    sources = manifest.sources
    known = {LICENCES.get(name.lower(), "other") for name in sources["licences"]}
    licence = known.pop() if len(known) == 1 else "other"
    named = {} if licence != "other" else {"license_name": "those-of-the-sources", "license_link": README}
    kinds = [f"melodygan-{name}-{part.kind.replace('/', '-')}" for name, part in manifest.components.items()]
    # On one line: what reads a card looks for a line that ends the front matter.
    urls = [" ".join(track["url"].split()) for track in sources["tracks"]]
    urls = [url for url in urls if url.startswith(("http://", "https://"))]
    return {
        "license": licence,
        **named,
        "library_name": "melodygan",
        "tags": ["audio", "music", "music-generation", "melodygan", manifest.pipeline, *kinds],
        "sources": urls[:MAX_SOURCES],
    }


def readme(manifest: Manifest, card: str) -> str:
    """`README.md` of the repository: front matter and the model card; text of strangers is quoted."""
    import yaml

    text = yaml.safe_dump(front_matter(manifest), sort_keys=False, allow_unicode=True, width=1000)
    return f"---\n{text}---\n\n{card}"


def push(folder: Path, repo: str, *, public: bool = False) -> str:
    """Pushes a release folder as one commit; the files are as hashed.

    Args:
        folder: Of the release.
        repo: `OWNER/NAME`; it is created if it does not exist.
        public: Whether a repository that is created can be read by everybody.

    Returns:
        URL of the commit.

    Raises:
        InputError: no release, not the name of a repository, or no right to write.
        MelodyGANError: the extra hub is missing, or the hub refuses the commit.
        TransientError: the hub cannot be reached.
    """
    require(_REPO.fullmatch(repo) is not None, "repo", repo, "OWNER/NAME of letters, digits, -, _ and .")
    require(
        "://" not in str(folder) and folder.is_dir(), "release", str(folder), "a release folder on this machine"
    )
    check_release(str(folder))
    require_extra("push", "hub")
    from huggingface_hub import CommitOperationAdd

    from melodygan_core.release import manifest as manifests
    from melodygan_core.storage import check_hashes

    check_hashes(folder, lambda name: name != manifests.CARD)
    manifest = manifests.read(folder)
    card = (folder / manifests.CARD).read_text("utf-8")
    files = sorted(p for p in folder.rglob("*") if p.is_file() and p.name != README)
    operations = [CommitOperationAdd(README, readme(manifest, card).encode())]
    operations += [CommitOperationAdd(p.relative_to(folder).as_posix(), p) for p in files]
    return _commit(repo, operations, f"{manifest.pipeline} {manifest.version}", public=public)


def _commit(repo: str, operations: Sequence[Any], message: str, *, public: bool) -> str:
    import httpx
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError

    api = HfApi(library_name="melodygan")
    try:
        api.create_repo(repo, private=not public, exist_ok=True)
        return str(api.create_commit(repo, operations, commit_message=message).commit_url)
    except LocalTokenNotFoundError:
        raise InputError(f"push needs a token of the hub: {_LOGIN}") from None
    except HfHubHTTPError as error:
        status = error.response.status_code
        if status in (401, 403):
            reason = f"repo must be one that your token may write to, got {repo!r} ({status}): {_LOGIN}"
            raise InputError(reason) from None
        kind = TransientError if status >= 500 else MelodyGANError
        raise kind(f"the hub answered {status} to the push of {message} to {repo}") from error
    except httpx.HTTPError as error:
        raise TransientError(f"the hub at {api.endpoint} cannot be reached: {error}") from error
