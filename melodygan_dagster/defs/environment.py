"""The resources and the executor of the code location."""

import dagster as dg

from melodygan_core.errors import INSTALL, InputError
from melodygan_core.settings import environment
from melodygan_dagster.io_managers import ArtifactRecords
from melodygan_dagster.resources import StoreResource, Workers, deployed_settings, without_config

# Of automatic runs and of training jobs: one step at a time, each in a process of its own. Trainings do not
# share a GPU, and one that runs out of memory takes no other step with it.
one_step_at_a_time = dg.multiprocess_executor.configured({"max_concurrent": 1}, name="one_step_at_a_time")


@dg.io_manager(config_schema={}, description="Values of ops and assets that have no record.")
def local_values(context: dg.InitResourceContext) -> dg.IOManager:
    """Dagster's default, without the config in which a run could name another folder to write to."""
    return dg.FilesystemIOManager().create_io_manager(context)


def from_environment() -> dict[str, dg.ResourceDefinition]:
    """All resources, as the environment sets them; the config of a run sets none of their fields."""
    store = StoreResource(root=environment().store)
    return {
        "store": without_config(store),
        "settings": without_config(deployed_settings()),
        "workers": without_config(deployed_workers()),
        "records": without_config(ArtifactRecords(store=store)),
        "io_manager": local_values,
    }


def deployed_workers() -> Workers:
    """Where the per-track stages run, as the environment sets it.

    Raises:
        InputError: MELODYGAN_RAY is not an address, or Ray is not installed.
    """
    address = environment().ray
    if not address:
        return Workers()
    try:
        from melodygan_dagster.ray_workers import ray_workers
    except ModuleNotFoundError as error:
        missing = f"MELODYGAN_RAY is {address!r}, but {error.name} is not installed"
        raise InputError(f"{missing}: {INSTALL} '.[ray]', or leave it empty") from error
    return ray_workers(address)


@dg.definitions
def defs() -> dg.Definitions:
    """Returns the store, settings and artifact records from the environment, and the default executor."""
    return dg.Definitions(resources=from_environment(), executor=one_step_at_a_time)
