"""Configs of what is made with trained models, and how it is judged."""

from __future__ import annotations

from dataclasses import dataclass, field

from melodygan_core.config.values import STEMS, require


@dataclass(frozen=True)
class GriffinLimConfig:
    """Phase reconstruction from mel magnitudes.

    Attributes:
        iterations: Of fast Griffin-Lim.
        momentum: 0 is the original algorithm, 0.99 the fast one.
    """

    iterations: int = 32
    momentum: float = 0.99

    def __post_init__(self) -> None:
        require(self.iterations >= 1, "iterations", self.iterations, "at least 1")
        require(0 <= self.momentum < 1, "momentum", self.momentum, "0 to below 1")


@dataclass(frozen=True)
class GenerationConfig:
    """What to make from a trained family.

    Attributes:
        count: Samples.
        duration_s: Length of each in seconds.
        seed: Of the noise; sample k of a seed is the same for every count.
        truncation: Noise beyond this many standard deviations is drawn again; 0 for none.
        condition: A stem or a tag the GAN was conditioned on; empty for a random one.
        loudness_lufs: Samples are brought to this level, never above -1 dB peak.
        griffin_lim: See GriffinLimConfig.
    """

    count: int = 8
    duration_s: float = 10.0
    seed: int = 0
    truncation: float = 2.5
    condition: str = ""
    loudness_lufs: float = -18.0
    griffin_lim: GriffinLimConfig = field(default_factory=GriffinLimConfig)

    def __post_init__(self) -> None:
        require(1 <= self.count <= 10_000, "count", self.count, "1 to 10000")
        require(0 < self.duration_s <= 3600, "duration_s", self.duration_s, "above 0, at most 3600 seconds")
        require(
            self.truncation == 0 or self.truncation >= 0.5, "truncation", self.truncation, "0, or 0.5 and more"
        )
        require(-60 <= self.loudness_lufs <= -5, "loudness_lufs", self.loudness_lufs, "-60 to -5 LUFS")


@dataclass(frozen=True)
class EvaluationConfig:
    """How a generated set is compared with real tracks.

    Attributes:
        window_s: Length of one embedded window in seconds.
        max_windows: Most windows of one set, spread evenly over its tracks.
        neighbours: k of density and coverage.
        bootstrap: Resamplings (by track) behind each interval.
        generated_count: Pieces generated for the comparison.
        seed: Of the generated pieces and the resampling.
    """

    window_s: float = 3.0
    max_windows: int = 600
    neighbours: int = 5
    bootstrap: int = 200
    generated_count: int = 80
    seed: int = 1

    def __post_init__(self) -> None:
        require(0.5 <= self.window_s <= 60, "window_s", self.window_s, "0.5 to 60 seconds")
        require(self.bootstrap >= 20, "bootstrap", self.bootstrap, "at least 20")
        require(self.neighbours >= 1, "neighbours", self.neighbours, "at least 1")
        require(self.max_windows >= len(STEMS), "max_windows", self.max_windows, f"at least {len(STEMS)}")
        require(self.generated_count >= 2, "generated_count", self.generated_count, "at least 2")
