"""Configs of generation and evaluation."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from melodygan_core.config.base import ConfigModel, Rule
from melodygan_core.config.values import ALL_DIFFERENT, STEMS, Seed

Truncation = Annotated[float, Rule("0, or 0.5 to 100", lambda limit: limit == 0 or 0.5 <= limit <= 100)]


class SamplingConfig(ConfigModel):
    """How a flow makes latents; other priors have their own way, and refuse values that are not the default."""

    steps: int = Field(0, ge=0, le=1000, description="Steps of a flow's solver; 0 for the prior's own number.")
    guidance: float = Field(
        1.0,
        ge=0,
        le=20,
        description="Scale of classifier-free guidance towards the condition; 1 for none.",
    )
    autoguidance: float = Field(
        1.0,
        ge=0,
        le=20,
        description="Scale of guidance away from an early version of the flow; 1 for none.",
    )


class GenerationConfig(SamplingConfig):
    """The pieces that a pipeline generates."""

    count: int = Field(8, ge=1, le=10_000, description="Pieces to generate.")
    duration_s: float = Field(10.0, gt=0, le=3600, description="Duration of each piece, in seconds.")
    seed: Seed = Field(0, description="Random seed; piece k of a seed is the same for every count.")
    truncation: Truncation = Field(
        2.5,
        description="Noise of a GAN (of the temporal one: style) beyond this many standard deviations is"
        " redrawn; 0 for no limit. A flow limits its predictions instead.",
    )
    condition: str = Field(
        "",
        max_length=200,
        description="A stem or tag that the prior was conditioned on; empty for a random one per piece.",
    )
    loudness_lufs: float = Field(
        -18.0, ge=-60, le=-5, description="Loudness of the pieces, in LUFS; peaks stay below -1 dBFS."
    )


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
