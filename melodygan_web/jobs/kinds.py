"""What the studio's worker can do: one row per service."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from melodygan_core.config import (
    AugmentSoundConfig,
    ConfigModel,
    ContinueConfig,
    GenerateConfig,
    InpaintConfig,
    InterpolateConfig,
    LoopConfig,
    NearestConfig,
    ReconstructConfig,
    TransferConfig,
    VariationsConfig,
    from_dict,
    require,
)
from melodygan_core.config.requests import SOUND
from melodygan_core.config.values import MAX_SEED

# Of a job's request, so that a typing error does not keep the machine busy for a day.
MAX_PIECES = 200
_SERVICES = "melodygan_core.services"


@dataclass(frozen=True)
class JobKind:
    """A service that the worker runs.

    Attributes:
        name: Of the job, and of its folder in `uses/`.
        title: For people: what it is doing.
        request: Class of the service's request.
        implementation: `module:function`, imported by the worker.
        capability: What the release's prior must be able to do; empty where every release can.
        reads_store: Whether the service is given the store, too.
    """

    name: str
    title: str
    request: type[ConfigModel]
    implementation: str
    capability: str = ""
    reads_store: bool = False

    @property
    def sound_fields(self) -> tuple[str, ...]:
        """Fields of the request that hold the path of a sound file."""
        return tuple(n for n, field in self.request.model_fields.items() if SOUND in field.metadata)

    @property
    def is_counted(self) -> bool:
        """Whether the request has a `count` and a `seed`, so that its sounds are made one by one."""
        return {"count", "seed"} <= set(self.request.model_fields)

    def pieces(self, settings: Mapping[str, Any]) -> int:
        """Number of calls of the service for a request.

        Raises:
            InputError: more than MAX_PIECES.
        """
        count = settings.get("count", 1) if self.is_counted else 1
        if isinstance(count, int):
            require(count <= MAX_PIECES, "count", count, f"1 to {MAX_PIECES}")
        return count

    def settings_of(self, settings: Mapping[str, Any], index: int) -> dict[str, Any]:
        """The settings of call `index`: one sound, of the seed that follows the previous one's."""
        if not self.is_counted:
            return dict(settings)
        return {**settings, "count": 1, "seed": (settings.get("seed", 0) + index) % (MAX_SEED + 1)}

    def needs(self, request: ConfigModel) -> str:
        """What the release's prior must be able to do for a request; empty for nothing."""
        planned = isinstance(request, GenerateConfig) and request.planned
        return "plan" if planned else self.capability

    def check(self, settings: Mapping[str, Any], inputs: Mapping[str, Any]) -> ConfigModel:
        """The request of a job, checked before it is queued; its sound files are not there yet.

        Args:
            settings: Fields of the request, without those that hold sound files.
            inputs: Fields that hold sound files.

        Raises:
            InputError: a field that it does not have, or a value that it does not allow.
        """
        foreign = sorted(set(inputs) - set(self.sound_fields))
        require(not foreign, "sounds", ", ".join(foreign), ", ".join(self.sound_fields) or "empty")
        named = sorted(set(settings) & set(self.sound_fields))
        require(not named, "settings", ", ".join(named), "without sound files, which `sounds` names")
        request = from_dict(self.request, {**settings, **dict.fromkeys(inputs, "sound")})
        if self.is_counted:
            self.pieces(request.model_dump())
        return request


JOB_KINDS: dict[str, JobKind] = {
    kind.name: kind
    for kind in (
        JobKind("generate", "New pieces", GenerateConfig, f"{_SERVICES}.generate:generate"),
        JobKind(
            "continue",
            "A sound that goes on",
            ContinueConfig,
            f"{_SERVICES}.continuation:continue_sound",
            "continue",
        ),
        JobKind("inpaint", "A part made anew", InpaintConfig, f"{_SERVICES}.continuation:inpaint", "inpaint"),
        JobKind("loop", "Loops", LoopConfig, f"{_SERVICES}.loop:loop", "loop"),
        JobKind("variations", "Variations", VariationsConfig, f"{_SERVICES}.variations:variations", "vary"),
        JobKind("reconstruct", "A reconstruction", ReconstructConfig, f"{_SERVICES}.reconstruct:reconstruct"),
        JobKind("interpolate", "Between two sounds", InterpolateConfig, f"{_SERVICES}.interpolate:interpolate"),
        JobKind("transfer", "A transfer of timbre", TransferConfig, f"{_SERVICES}.transfer:transfer"),
        JobKind("augment", "Augmented sounds", AugmentSoundConfig, f"{_SERVICES}.augment_sound:augment_sound"),
        JobKind(
            "nearest",
            "The nearest training music",
            NearestConfig,
            f"{_SERVICES}.nearest:nearest",
            reads_store=True,
        ),
    )
}


def job_kind(name: Any) -> JobKind:
    """The kind of a name.

    Raises:
        InputError: no such kind.
    """
    require(isinstance(name, str) and name in JOB_KINDS, "kind", name, ", ".join(JOB_KINDS))
    return JOB_KINDS[name]
