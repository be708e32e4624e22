"""The parameters of separation networks, by architecture."""

from __future__ import annotations

from typing import Any

from melodygan_core.config import SeparationConfig, require

# The parameters of audio-separator 0.47 by architecture; a test compares them with the installed version.
PARAMETERS: dict[str, dict[str, type]] = {
    "MDX": {
        "hop_length": int,
        "segment_size": int,
        "overlap": float,
        "batch_size": int,
        "enable_denoise": bool,
    },
    "VR": {
        "batch_size": int,
        "window_size": int,
        "aggression": int,
        "enable_tta": bool,
        "enable_post_process": bool,
        "post_process_threshold": float,
        "high_end_process": bool,
    },
    "Demucs": {"segment_size": int, "shifts": int, "overlap": float, "segments_enabled": bool},
    "MDXC": {
        "segment_size": int,
        "override_model_segment_size": bool,
        "batch_size": int,
        "overlap": int,
        "pitch_shift": int,
    },
}


def check_names(config: SeparationConfig) -> None:
    """Raises InputError for a parameter that no architecture has."""
    known = sorted({name for names in PARAMETERS.values() for name in names})
    for name, _value in config.parameters:
        require(name in known, "a separation parameter", name, ", ".join(known))


def convert(kind: type, value: float) -> Any:
    """Returns the value as that type, or None if it is not a value of the type."""
    if kind is float:
        return float(value)
    if value != int(value) or (kind is bool and value not in (0, 1)):
        return None
    return kind(value)


def check(config: SeparationConfig, architecture: str) -> None:
    """Raises InputError for a parameter, or its value, that a model of this architecture does not accept."""
    types = PARAMETERS[architecture]
    for name, value in config.parameters:
        allowed = f"one of {config.model} ({architecture}): {', '.join(sorted(types))}"
        require(name in types, "a separation parameter", name, allowed)
        require(convert(types[name], value) is not None, name, value, f"of type {types[name].__name__}")
