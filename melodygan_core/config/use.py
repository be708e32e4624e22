"""Configs of what is made with a pipeline: the requests of the services, and evaluation."""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import Field, model_validator

from melodygan_core.config.base import ConfigModel, Rule
from melodygan_core.config.messages import ConfigError, short_repr
from melodygan_core.config.values import ALL_DIFFERENT, STEMS, Rights, Seed

# Marks a field that holds the path of a sound file; "" where a sound may be left out.
SOUND: Final = "sound file"
Sound = Annotated[str, Field(min_length=1, max_length=4096), SOUND]
OptionalSound = Annotated[str, Field(max_length=4096), SOUND]
Truncation = Annotated[float, Rule("0, or 0.5 to 100", lambda limit: limit == 0 or 0.5 <= limit <= 100)]


class GenerationConfig(ConfigModel):
    """The pieces that a pipeline generates."""

    count: int = Field(8, ge=1, le=10_000, description="Pieces to generate.")
    duration_s: float = Field(10.0, gt=0, le=3600, description="Duration of each piece, in seconds.")
    seed: Seed = Field(0, description="Random seed; piece k of a seed is the same for every count.")
    truncation: Truncation = Field(
        2.5,
        description="Noise (for the temporal GAN: style) beyond this many standard deviations is redrawn;"
        " 0 for no limit.",
    )
    condition: str = Field(
        "",
        max_length=200,
        description="A stem or tag that the prior was conditioned on; empty for a random one per piece.",
    )
    loudness_lufs: float = Field(
        -18.0, ge=-60, le=-5, description="Loudness of the pieces, in LUFS; peaks stay below -1 dBFS."
    )


class ReconstructConfig(ConfigModel):
    """A sound that goes through codec and vocoder."""

    sound: Sound = Field(description="Sound that is encoded and decoded.")


class InterpolateConfig(ConfigModel):
    """Sounds between two sounds."""

    first: Sound = Field(description="Sound that the interpolation begins with.")
    second: Sound = Field(description="Sound that it ends with.")
    steps: int = Field(5, ge=2, le=100, description="Sounds to make, both ends included.")


class TransferConfig(ConfigModel):
    """A sound and the timbre that it gets: of another sound, or of a tag."""

    content: Sound = Field(description="Sound whose melody and rhythm are kept.")
    style: OptionalSound = Field("", description="Sound whose timbre is taken; empty for the timbre of a tag.")
    style_tag: str = Field(
        "",
        max_length=200,
        description="A tag or stem of the release's training tracks, or `all`; empty for a sound's timbre.",
    )
    strength: float = Field(
        1.0, ge=0, le=1, description="Strength of the transfer: 0 keeps the timbre, 1 takes the style's."
    )

    @model_validator(mode="after")
    def _one_style(self) -> TransferConfig:
        if bool(self.style) == bool(self.style_tag):
            got = f"{short_repr(self.style)} and {short_repr(self.style_tag)}"
            raise ConfigError(f"exactly one of `style` and `style_tag` must be given, got {got}")
        return self


class AugmentConfig(ConfigModel):
    """How a labelled set of sounds is multiplied."""

    copies: int = Field(3, ge=1, le=1000, description="Variations of each sound.")
    seed: Seed = Field(
        0, description="Random seed; variation k of a sound is the same for every number of copies."
    )
    strength: float = Field(
        0.5,
        ge=0,
        le=1,
        description="Strength of the variation: 0 keeps the sound, 1 moves it to another sound's timbre.",
    )
    licence: str = Field(
        "", max_length=1000, description="Licence of sounds for which the set names none; empty for unknown."
    )
    rights: Rights = Field("unknown", description="Rights to sounds for which the set names none.")


class EvaluationConfig(ConfigModel):
    """How a generated set is compared with real tracks."""

    windows_s: Annotated[tuple[Annotated[float, Field(ge=0.5, le=60)], ...], ALL_DIFFERENT] = Field(
        (3.0, 10.0),
        min_length=1,
        max_length=16,
        description="Lengths of embedded windows, in seconds; each is compared by itself, and the first decides"
        " about releases.",
    )
    max_windows: int = Field(
        600,
        ge=len(STEMS),
        le=1_000_000,
        description="Most windows per set, spread evenly over its tracks.",
    )
    neighbours: int = Field(5, ge=1, le=1000, description="Neighbours k of density and coverage.")
    bootstrap: int = Field(
        200, ge=20, le=100_000, description="Bootstrap resamplings (by track) behind each interval."
    )
    generated_count: int = Field(
        80, ge=2, le=10_000, description="Pieces that are generated for the comparison."
    )
    music_s: float = Field(
        15.0,
        ge=1,
        le=60,
        description="Length of the excerpts whose pulse, harmony, melody and form are measured, in seconds;"
        " pieces are at least that long.",
    )
    music_excerpts: int = Field(
        40, ge=5, le=1000, description="Most excerpts per set whose music is measured, evenly over its tracks."
    )
    seed: Seed = Field(1, description="Random seed of the generated pieces and the resampling.")
