"""Configs of the services: one request each."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import Field, model_validator

from melodygan_core.config.base import ConfigModel
from melodygan_core.config.messages import ConfigError, short_repr
from melodygan_core.config.use import GenerationConfig, SamplingConfig
from melodygan_core.config.values import Rights, Seed

# Marks a field that holds the path of a sound file; "" where a sound may be left out.
SOUND: Final = "sound file"
Sound = Annotated[str, Field(min_length=1, max_length=4096), SOUND]
OptionalSound = Annotated[str, Field(max_length=4096), SOUND]

# How far a flow goes in `transfer` and `augment` at strength 1: more noise keeps no melody.
MOST_NOISE: Final = 0.7

Method = Literal["auto", "eq", "flow"]
_METHOD = (
    "`eq`, a filter over the sound; `flow`, the sound made anew from its latents and noise; `auto`, what the"
    " release can do: `flow` where its prior is one"
)


class GenerateConfig(GenerationConfig):
    """New pieces, and what they play; that is for priors that follow plans."""

    plan: OptionalSound = Field(
        "",
        description="What the pieces play: a plan that an earlier call saved (.parquet), or a sound whose"
        " harmony, melody, onsets, metre, loudness and sections are followed.",
    )
    melody: OptionalSound = Field(
        "",
        description="Melody that the pieces play: a sound with one line, such as a hummed one, a MIDI file or a"
        " tune in ABC notation (.abc).",
    )
    chords: str = Field(
        "",
        max_length=10_000,
        description="Chords that the pieces play, a bar each, such as `Am F C G`; with | between bars, several"
        " share one.",
    )
    key: str = Field(
        "",
        max_length=40,
        description="Key that melody and chords are transposed to, such as `F# minor`; without either, a"
        " progression in that key.",
    )
    form: str = Field(
        "",
        max_length=64,
        description="Order of the parts of melody and chords, such as AABA, which are divided evenly among its"
        " letters.",
    )
    tempo_bpm: float = Field(
        0.0,
        description="Beats per minute; 0 for those of the melody, or 120.",
        ge=0,
        le=400,
    )
    beats: int = Field(0, ge=0, le=16, description="Beats of a bar; 0 for those of the melody, or 4.")

    @model_validator(mode="after")
    def _one_plan(self) -> GenerateConfig:
        others = [
            name for name in ("melody", "chords", "key", "form", "tempo_bpm", "beats") if getattr(self, name)
        ]
        if self.plan and others:
            raise ConfigError(
                f"{others[0]} must be left out with `plan`, got {short_repr(getattr(self, others[0]))}"
            )
        if self.form and not (self.melody or self.chords or self.key):
            raise ConfigError(
                f"form must be given with `melody`, `chords` or `key`, got {short_repr(self.form)}"
            )
        if self.tempo_bpm and self.tempo_bpm < 20:
            raise ConfigError(f"tempo_bpm must be 0, or 20 to 400, got {self.tempo_bpm:g}")
        return self

    @property
    def planned(self) -> bool:
        """Whether the pieces are to follow a plan."""
        fields = (self.plan, self.melody, self.chords, self.key, self.form, self.tempo_bpm, self.beats)
        return any(fields)


class ReconstructConfig(ConfigModel):
    """A sound that goes through codec and vocoder."""

    sound: Sound = Field(description="Sound that is encoded and decoded.")


class NearestConfig(ConfigModel):
    """A sound whose nearest place in the training music is looked for."""

    sound: Sound = Field(description="Sound that the training music is searched for.")


class InterpolateConfig(ConfigModel):
    """Sounds between two sounds."""

    first: Sound = Field(description="Sound that the interpolation begins with.")
    second: Sound = Field(description="Sound that it ends with.")
    steps: int = Field(5, ge=2, le=100, description="Sounds to make, both ends included.")


class EditConfig(SamplingConfig):
    """What all requests share that go on from a sound, or make a loop, with the latents of a flow."""

    count: int = Field(1, ge=1, le=1000, description="Sounds to make, each of other noise.")
    seed: Seed = Field(0, description="Random seed; sound k of a seed is the same for every count.")
    condition: str = Field(
        "",
        max_length=200,
        description="A stem or tag that the prior was conditioned on; empty for none.",
    )


class ContinueConfig(EditConfig):
    """A sound that goes on."""

    sound: Sound = Field(description="Sound that is continued.")
    duration_s: float = Field(10.0, gt=0, le=1200, description="Seconds to add.")


class InpaintConfig(EditConfig):
    """A sound, a part of which is made anew."""

    sound: Sound = Field(description="Sound that is repaired.")
    start_s: float = Field(ge=0, le=1200, description="Second at which the new part begins.")
    end_s: float = Field(gt=0, le=1200, description="Second at which it ends.")

    @model_validator(mode="after")
    def _begins_before_it_ends(self) -> InpaintConfig:
        if self.start_s >= self.end_s:
            raise ConfigError(f"end_s must be above `start_s` = {self.start_s:g}, got {self.end_s:g}")
        return self


class LoopConfig(EditConfig):
    """A loop: a new sound whose end goes over into its beginning."""

    duration_s: float = Field(0.0, ge=0, le=120, description="Duration of the loop in seconds; 0 to give bars.")
    bars: int = Field(0, ge=0, le=256, description="Duration of the loop in bars; 0 to give seconds.")
    tempo_bpm: float = Field(120.0, ge=20, le=400, description="Beats per minute of the bars.")
    beats: int = Field(4, ge=1, le=16, description="Beats of a bar.")

    @model_validator(mode="after")
    def _one_duration(self) -> LoopConfig:
        if bool(self.duration_s) == bool(self.bars):
            got = f"{self.duration_s:g} and {self.bars}"
            raise ConfigError(f"exactly one of `duration_s` and `bars` must be above 0, got {got}")
        if not 0.5 <= self.length_s <= 120:
            raise ConfigError(f"duration_s must be 0.5 to 120 (of the bars, too), got {self.length_s:g}")
        return self

    @property
    def length_s(self) -> float:
        """Duration in seconds."""
        return self.duration_s or self.bars * self.beats * 60 / self.tempo_bpm


class VariationsConfig(EditConfig):
    """A sound and how far its variations go."""

    sound: Sound = Field(description="Sound that is varied.")
    strength: float = Field(
        0.5, ge=0, le=1, description="Share of noise in what is begun from: 0 keeps the sound, 1 nothing of it."
    )


class TransferConfig(SamplingConfig):
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
    method: Method = Field("auto", description=f"{_METHOD} and was trained with the tag as a condition.")
    style_weight: float = Field(
        1.0,
        ge=0,
        le=10,
        description="Of `flow`: how far each step is moved towards the style, in standard deviations of what"
        " is not known yet; 0 for not.",
    )
    keep_melody: float = Field(
        1.0,
        ge=0,
        le=10,
        description="Of `flow`: how far each step is moved towards the pitch classes and onsets of the content,"
        " in the same unit; 0 for not.",
    )
    seed: Seed = Field(0, description="Random seed of `flow`.")

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
    method: Method = Field("auto", description=f"{_METHOD}.")
    licence: str = Field(
        "", max_length=1000, description="Licence of sounds for which the set names none; empty for unknown."
    )
    rights: Rights = Field("unknown", description="Rights to sounds for which the set names none.")


class AugmentSoundConfig(ConfigModel):
    """How one sound is varied as a labelled set is: melody, rhythm and length stay."""

    sound: Sound = Field(description="Sound that is varied.")
    count: int = Field(3, ge=1, le=1000, description="Variations to make.")
    seed: Seed = Field(0, description="Random seed; variation k of a seed is the same for every count.")
    strength: float = Field(
        0.5, ge=0, le=1, description="Strength of the variation: 0 keeps the sound, 1 changes it most."
    )
    method: Method = Field("auto", description=f"{_METHOD}.")
