"""Configs of what is made with trained models."""

from __future__ import annotations

from dataclasses import dataclass, field

from melodygan_core.config.values import RIGHTS, STEMS, VOCODERS, require


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
        truncation: Noise (of the temporal family: style) beyond this many standard deviations is drawn again; 0
            for none.
        condition: A stem or a tag the GAN was conditioned on; empty for a random one.
        loudness_lufs: Samples are brought to this level, never above -1 dB peak.
        vocoder: `neural`, the trained one, or `griffin_lim`, which needs no training.
        griffin_lim: See GriffinLimConfig.
    """

    count: int = 8
    duration_s: float = 10.0
    seed: int = 0
    truncation: float = 2.5
    condition: str = ""
    loudness_lufs: float = -18.0
    vocoder: str = "neural"
    griffin_lim: GriffinLimConfig = field(default_factory=GriffinLimConfig)

    def __post_init__(self) -> None:
        require(1 <= self.count <= 10_000, "count", self.count, "1 to 10000")
        require(0 < self.duration_s <= 3600, "duration_s", self.duration_s, "above 0, at most 3600 seconds")
        require(
            self.truncation == 0 or self.truncation >= 0.5, "truncation", self.truncation, "0, or 0.5 and more"
        )
        require(self.vocoder in VOCODERS, "vocoder", self.vocoder, ", ".join(VOCODERS))
        require(-60 <= self.loudness_lufs <= -5, "loudness_lufs", self.loudness_lufs, "-60 to -5 LUFS")


@dataclass(frozen=True)
class AugmentConfig:
    """How a labelled set of sounds is multiplied.

    Attributes:
        copies: Variations of each sound.
        seed: Variation k of a sound and a seed is the same for every number of copies.
        strength: 0 leaves a sound as it is; 1 goes as far as to the timbre of another one of its label.
        licence: Of sounds whose licence the set does not name; empty for unknown, which is not free.
        rights: Of the same: own, licensed, open or unknown.
    """

    copies: int = 3
    seed: int = 0
    strength: float = 0.5
    licence: str = ""
    rights: str = "unknown"

    def __post_init__(self) -> None:
        require(1 <= self.copies <= 1000, "copies", self.copies, "1 to 1000")
        require(0 <= self.seed < 1 << 31, "seed", self.seed, "0 to 2147483647")
        require(0 <= self.strength <= 1, "strength", self.strength, "0 to 1")
        require(self.rights in RIGHTS, "rights", self.rights, ", ".join(RIGHTS))


@dataclass(frozen=True)
class EvaluationConfig:
    """How a generated set is compared with real tracks.

    Attributes:
        windows_s: Lengths of embedded windows in seconds, each compared by itself; the first judges releases.
        max_windows: Most windows of one set, spread evenly over its tracks.
        neighbours: k of density and coverage.
        bootstrap: Resamplings (by track) behind each interval.
        generated_count: Pieces generated for the comparison.
        seed: Of the generated pieces and the resampling.
    """

    windows_s: tuple[float, ...] = (3.0, 10.0)
    max_windows: int = 600
    neighbours: int = 5
    bootstrap: int = 200
    generated_count: int = 80
    seed: int = 1

    def __post_init__(self) -> None:
        good = len(set(self.windows_s)) == len(self.windows_s) > 0 and all(
            0.5 <= s <= 60 for s in self.windows_s
        )
        require(good, "windows_s", self.windows_s, "different lengths, 0.5 to 60 seconds")
        require(self.bootstrap >= 20, "bootstrap", self.bootstrap, "at least 20")
        require(self.neighbours >= 1, "neighbours", self.neighbours, "at least 1")
        require(self.max_windows >= len(STEMS), "max_windows", self.max_windows, f"at least {len(STEMS)}")
        require(self.generated_count >= 2, "generated_count", self.generated_count, "at least 2")
