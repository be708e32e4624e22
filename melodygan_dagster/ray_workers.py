"""Workers of the per-track stages on a Ray cluster; imported only if MELODYGAN_RAY is set."""

import logging

from dagster_ray import LocalRay
from dagster_ray.configs import RayDataExecutionOptions
from pydantic import Field

from melodygan_core.config import DownloadConfig, FeatureConfig, SeparationConfig, require
from melodygan_core.parallel import Backend
from melodygan_dagster.resources import Workers

LOCAL = "local"
# Only small objects pass through Ray's memory: a track_id to the worker, a few figures back.
_OBJECT_STORE_BYTES = 100_000_000


class _NoRayData(RayDataExecutionOptions):
    """Options that set up nothing: Ray Data is not used, and its setup costs seconds per run."""

    def apply(self) -> None:
        """Sets nothing in this process."""

    def apply_remote(self) -> None:
        """Sets nothing on the cluster."""


class RayWorkers(LocalRay, Workers):
    """Connects to Ray from the first step that needs it to the end of the run.

    Unlike LocalRay, which uses any cluster that it finds before it starts one, it takes the address as a field.
    """

    address: str = Field(
        description="`local` (a Ray of this machine, as long as the run), or a cluster: `ray://host:10001`,"
        " `host:6379`, `auto` (MELODYGAN_RAY)."
    )

    data_execution_options: _NoRayData = Field(default_factory=_NoRayData)

    @property
    def ray_address(self) -> str:  # type: ignore[override]
        """The address that `ray.init` connects to."""
        return self.address

    @property
    def name(self) -> str:
        """The name in Dagster's log."""
        return f"Ray ({self.address})"

    def downloads(self, config: DownloadConfig) -> Backend:
        """Returns as many workers as without Ray: more would send more requests to other people's sites."""
        return Backend("ray", config.workers)

    def separation(self, config: SeparationConfig) -> Backend:
        """Returns a worker per GPU, or per machine without one: a network on CPUs uses every core."""
        import ray

        gpus = int(ray.cluster_resources().get("GPU", 0))
        if gpus and config.device in ("auto", "cuda"):
            return Backend("ray", gpus, gpus=1)
        cpus = [n["Resources"]["CPU"] for n in ray.nodes() if n["Alive"] and n["Resources"].get("CPU", 0) >= 1]
        return Backend("ray", max(1, len(cpus)), cpus=min(cpus, default=1))

    def features(self, config: FeatureConfig) -> Backend:
        """Returns a worker per CPU."""
        import ray

        return Backend("ray", max(1, int(ray.cluster_resources().get("CPU", 0))))


def ray_workers(address: str) -> RayWorkers:
    """Returns the resource for a value of MELODYGAN_RAY.

    Raises:
        InputError: the value is no address.
    """
    host, _, port = address.removeprefix("ray://").rpartition(":")
    known = address in (LOCAL, "auto") or (bool(host) and port.isdecimal())
    require(known, "MELODYGAN_RAY", address, "local, auto, host:port, ray://host:port, or empty")
    options = {"log_to_driver": False, "logging_level": logging.WARNING}
    if address == LOCAL:
        options |= {"include_dashboard": False, "object_store_memory": _OBJECT_STORE_BYTES}
    return RayWorkers(address=address, ray_init_options=options)
