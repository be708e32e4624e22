"""What a training of a run begins with: the release of the deployment, or one that the launchpad names."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import dagster as dg

from melodygan_core.storage.kinds import RELEASE
from melodygan_core.storage.start import NAME
from melodygan_dagster.resources import Settings, StoreResource, deployed_config
from melodygan_dagster.service_runs import own_file

if TYPE_CHECKING:
    from melodygan_core.training import Start


@contextmanager
def given(
    context: dg.AssetExecutionContext, store: StoreResource, settings: Settings, part: str
) -> Iterator["Start | None"]:
    """The weights that the training of a part begins with; None for random ones.

    Args:
        context: Of the asset, whose config has `start_from`.
        store: Its releases can be named as `releases/PIPELINE[/VERSION]`.
        settings: Where other releases may lie.
        part: `codec`, `refiner`, `prior` or `vocoder`.

    Raises:
        InputError: no release, one elsewhere, or one that is damaged.
    """
    from melodygan_core.services.starting import open_part

    name = str(context.op_execution_context.op_config[NAME])
    if name and name != deployed_config().start_from:
        name = _named(store, settings, name)
    with open_part(name, part) as start:
        yield start


def _named(store: StoreResource, settings: Settings, name: str) -> str:
    """A release that a person named in the launchpad: of this store, or where `path:` sources may lie."""
    if name.startswith(f"{RELEASE.top}/") and ".." not in name.split("/"):
        return f"{store.root.rstrip('/')}/{name}"
    return str(own_file(settings, name, NAME))
