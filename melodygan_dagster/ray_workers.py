"""The per-track stages on a Ray cluster; imported where MELODYGAN_RAY is set only."""

import logging

from dagster_ray import LocalRay
from dagster_ray.configs import RayDataExecutionOptions
from pydantic import Field

from melodygan_core.config import DownloadConfig, FeatureConfig, SeparationConfig, require
from melodygan_core.parallel import Backend
from melodygan_dagster.resources import Workers

LOCAL = "local"
# Nothing of weight goes through Ray's memory: a track_id there, a few figures back.
_OBJECT_STORE_BYTES = 100_000_000


class _NoRayData(RayDataExecutionOptions):
    """Ray Data is not used: setting it up costs seconds of every run, and waits for a free CPU."""

    def apply(self) -> None:
        """Nothing to set here."""

    def apply_remote(self) -> None:
        """Nothing to set there."""


class RayWorkers(LocalRay, Workers):
    """dagster-ray's RayResource, connected from the first step that needs it to the end of the run.

    LocalRay itself takes any cluster that it finds before it starts one; this one is told which.
    """

    address: str = Field(
        description="`local` (a Ray of this machine, as long as the run), or a cluster: `ray://host:10001`,"
        " `host:6379`, `auto` (MELODYGAN_RAY)."
    )

    data_execution_options: _NoRayData = Field(default_factory=_NoRayData)

    @property
    def ray_address(self) -> str:  # type: ignore[override]
        """What ray.init is told."""
        return self.address

    @property
    def name(self) -> str:
        """What Dagster's log calls it."""
        return f"Ray ({self.address})"

    def downloads(self, config: DownloadConfig) -> Backend:
        """As many as without Ray: each keeps `pause_s`, and more of them would ask other people more often."""
        return Backend("ray", config.workers)

    def separation(self, config: SeparationConfig) -> Backend:
        """A GPU for each, or else a whole machine: a network on CPUs takes every core that it finds."""
        import ray

        gpus = int(ray.cluster_resources().get("GPU", 0))
        if gpus and config.device in ("auto", "cuda"):
            return Backend("ray", gpus, gpus=1)
        cpus = [n["Resources"]["CPU"] for n in ray.nodes() if n["Alive"] and n["Resources"].get("CPU", 0) >= 1]
        return Backend("ray", max(1, len(cpus)), cpus=min(cpus, default=1))

    def features(self, config: FeatureConfig) -> Backend:
        """A CPU for each."""
        import ray

        return Backend("ray", max(1, int(ray.cluster_resources().get("CPU", 0))))


def ray_workers(address: str) -> RayWorkers:
    """The resource for a value of MELODYGAN_RAY.

    Raises:
        InputError: it is none of those that are allowed.
    """
    host, _, port = address.removeprefix("ray://").rpartition(":")
    known = address in (LOCAL, "auto") or (bool(host) and port.isdecimal())
    require(known, "MELODYGAN_RAY", address, "local, auto, host:port, ray://host:port, or empty")
    options = {"log_to_driver": False, "logging_level": logging.WARNING}
    if address == LOCAL:
        options |= {"include_dashboard": False, "object_store_memory": _OBJECT_STORE_BYTES}
    return RayWorkers(address=address, ray_init_options=options)
