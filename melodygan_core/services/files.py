"""Files in, files out: every sound that an application makes, with its provenance beside it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from melodygan_core import audio, generation
from melodygan_core.catalogue.tracks import slug
from melodygan_core.config import GenerationConfig, require
from melodygan_core.errors import InputError
from melodygan_core.prior.gan import condition_index
from melodygan_core.release import Release, styles
from melodygan_core.services.content_similarity import content_similarity
from melodygan_core.services.interpolate import MAX_STEPS, interpolate
from melodygan_core.services.reconstruct import reconstruct
from melodygan_core.services.sound import Samples, load_sound, log_mel_of, sequence_model
from melodygan_core.services.transfer import transfer
from melodygan_core.storage.files import replacing
from melodygan_core.storage.store import dump_json, sha256_of

Row = dict[str, Any]


def generate_files(release: Release, config: GenerationConfig, out: Path) -> list[Row]:
    """Writes new pieces: `sample-000.wav`, its `.json`, ...; see generation.write_pieces.

    Raises:
        InputError: an unknown condition.
    """
    if config.condition:
        condition_index(release.models.gan.conditions, config.condition)
    out.mkdir(parents=True, exist_ok=True)
    return generation.write_pieces(release.models, config, out, provenance(release))


def reconstruct_file(release: Release, path: Path, out: Path) -> list[Row]:
    """Writes `<name>-reconstructed.wav`, and how much of melody and rhythm is left.

    Raises:
        InputError: no sound, or a release of another family.
    """
    sequence_model(release.models)
    wav = load_sound(path, release.models.feature)
    made = reconstruct(release.models, wav)
    figures = content_similarity(wav, made, release.models.feature)
    facts = {"application": "reconstruct", "inputs": [_input(path)]}
    return [_write(release, out, f"{_name(path)}-reconstructed", made, wav, facts, figures)]


def interpolate_files(release: Release, first: Path, second: Path, steps: int, out: Path) -> list[Row]:
    """Writes `interpolation-00.wav` (the first, reconstructed) to the second, as long as the shorter one.

    Raises:
        InputError: no sound, a release of another family, or a number of steps that is not allowed.
    """
    require(2 <= steps <= MAX_STEPS, "steps", steps, f"2 to {MAX_STEPS}")
    sequence_model(release.models)
    wavs = [load_sound(p, release.models.feature) for p in (first, second)]
    samples = min(map(len, wavs))
    rows = []
    sounds = interpolate(release.models, wavs[0], wavs[1], steps)
    for k, made in enumerate(tqdm(sounds, total=steps, desc="interpolate", unit="sound")):
        share = k / (steps - 1)
        # As loud as what it lies between.
        like = (wavs[0] if share < 0.5 else wavs[1])[:samples]
        facts = {"application": "interpolate", "inputs": [_input(first), _input(second)]}
        rows.append(
            _write(release, out, f"interpolation-{k:02d}", made, like, facts, {"share_of_second": share})
        )
    return rows


def transfer_file(
    release: Release, content: Path, style: Path | None, tag: str, strength: float, out: Path
) -> list[Row]:
    """Writes `<content>-as-<style>.wav`, and how near it came.

    Args:
        release: Of the temporal family.
        content: Whose melody and rhythm are kept.
        style: A sound whose timbre is taken; None for a tag's.
        tag: A tag of the release; empty for a sound's.
        strength: 0 to 1.
        out: Folder.

    Raises:
        InputError: no sound, an unknown tag, both a sound and a tag or neither, a release of another family.
    """
    feature = sequence_model(release.models).feature
    if (style is None) == (not tag):
        raise InputError(f"style is {str(style)!r} and the style's tag {tag!r}; allowed: exactly one of them")
    wanted = release.style(tag) if style is None else None
    wav = load_sound(content, feature)
    if wanted is None:
        assert style is not None
        wanted = styles.style_of(log_mel_of(load_sound(style, feature), feature), feature)
    made = transfer(release.models, wav, wanted, strength)
    facts = {
        "application": "transfer",
        "inputs": [_input(p) for p in (content, style) if p is not None],
        "style_tag": tag,
        "strength": strength,
    }
    name = f"{_name(content)}-as-{slug(tag, 40) or 'style' if style is None else _name(style)}"
    return [_write(release, out, name, made.wav, wav, facts, made.figures)]


def provenance(release: Release) -> dict[str, Any]:
    """What every sound that was made with a release must carry."""
    described = {k: release.description[k] for k in ("models", "sources")}
    return {"release": release.description["version"], "family": release.models.family, **described}


def _name(path: Path) -> str:
    return slug(path.stem, 60) or "sound"


def _input(path: Path) -> dict[str, str]:
    return {"file": path.name, "sha256": sha256_of(path)}


def _write(
    release: Release,
    out: Path,
    name: str,
    wav: Samples,
    like: Samples,
    facts: dict[str, Any],
    figures: dict[str, float],
) -> Row:
    rate = release.models.feature.sample_rate
    wav = audio.normalise_loudness(wav, rate, audio.loudness_lufs(like, rate))
    with replacing(out / f"{name}.wav") as temporary:
        audio.write_wav(temporary, wav, rate)
    row = {
        "file": f"{name}.wav",
        "duration_s": round(len(wav) / rate, 3),
        "sample_rate": rate,
        "peak_db": round(audio.peak_db(wav), 2),
        **{k: round(float(v), 4) for k, v in figures.items()},
    }
    with replacing(out / f"{name}.json") as temporary:
        dump_json(temporary, {**row, **facts, **provenance(release)})
    return row
