"""A release as what trainings begin with: its parts, and whether they fit the config of what is trained."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from melodygan_core import codec as codecs
from melodygan_core import prior as priors
from melodygan_core import vocoder as vocoders
from melodygan_core.codec import refiner as refiners
from melodygan_core.config import GenerationConfig, from_dict, require
from melodygan_core.config.config import Config
from melodygan_core.errors import InputError
from melodygan_core.release import fit, legacy, manifest
from melodygan_core.release.manifest import Manifest
from melodygan_core.storage import check_hashes
from melodygan_core.training import Start
from melodygan_core.training.checkpoint import config_errors
from melodygan_core.training.start import start_id


@dataclass(frozen=True)
class StartingRelease:
    """A release whose weights trainings begin with.

    Attributes:
        manifest: Of the release.
        parts: `codec`, `refiner`, `prior`, `vocoder`: those that have weights.
    """

    manifest: Manifest
    parts: dict[str, Start]

    def part(self, name: str) -> Start:
        """The weights of a part.

        Raises:
            InputError: the release has none.
        """
        require(name in self.parts, "start_parts", name, f"of {', '.join(self.parts)}, which the release has")
        return self.parts[name]

    @property
    def sentence(self) -> str:
        """Which release it is, and under which licences it was trained."""
        sources = self.manifest.sources
        return (
            f"{self.manifest.pipeline} {self.manifest.version}, trained on {len(sources['tracks'])} tracks"
            f" (licences: {', '.join(sources['licences'])})"
        )


def read(folder: Path) -> StartingRelease:
    """The parts of a release folder; every file is as hashed, and no weight is read.

    Raises:
        InputError: no release, one of version 0.1, changed since it was published, or parts that do not fit one
            another.
    """
    if legacy.is_legacy(folder):
        raise InputError(
            f"start_from must be a release of this version, got one of version 0.1: {str(folder)!r}"
        )
    # The hashes of the components are in the manifest.
    check_hashes(folder, lambda name: name == manifest.FILE)
    described = manifest.read(folder)
    components = {name: part for name, part in described.components.items() if part.path}
    with config_errors(folder):
        generation = from_dict(GenerationConfig, described.generation)
    paths = {name: folder / part.path for name, part in components.items()}
    fit.check_parts(paths, components["vocoder"].kind if "vocoder" in components else "", generation)
    codec_id = start_id("codec", components["codec"].sha256, described.sources)
    parts = {
        name: Start(
            part=name,
            folder=paths[name],
            sha256=component.sha256,
            pipeline=described.pipeline,
            version=described.version,
            sources=described.sources,
            codec_id=codec_id,
        )
        for name, component in components.items()
    }
    return StartingRelease(described, parts)


def check(release: StartingRelease, config: Config, assets: Iterable[tuple[str, str, str]]) -> None:
    """Checks that the parts of a release fit what is trained, before anything is.

    Args:
        release: What trainings begin with.
        config: Of all stages.
        assets: (part, codec, prior) of each checkpoint that is trained; see `checkpoints_of`.

    Raises:
        InputError: a part that the release does not have, or that does not fit; names it and the setting.
    """
    for part, codec, prior in assets:
        if part not in config.start_parts:
            continue
        given = release.part(part)
        if part == "codec":
            codecs.check_start(codec, config.codecs[codec], config.features, given)
        elif part == "refiner":
            refiners.check_start(config.refiner, given)
        elif part == "prior":
            priors.check_start(codec, prior, config.priors[codec][prior], given)
        else:
            vocoders.check_start(config.vocoder, config.features, given)


def checkpoints_of(config: Config) -> list[tuple[str, str, str]]:
    """(part, codec, prior) of each checkpoint of the pipelines that are trained."""
    found = []
    for row in config.trained_pipelines().values():
        found += [("codec", row.codec, ""), ("prior", row.codec, row.prior)]
        found += [("refiner", row.codec, "")] if row.refined else []
        found += [("vocoder", "", "")] if row.vocoder != "griffin_lim" else []
    return list(dict.fromkeys(found))
