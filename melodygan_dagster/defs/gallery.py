"""Everything that can be heard, on one page."""

import dagster as dg

from melodygan_core.config import FAMILIES, VERSIONS
from melodygan_core.storage.store import Artifact
from melodygan_dagster import reporting
from melodygan_dagster.conditions import AFTER_TRAINING
from melodygan_dagster.io_managers import RECORD
from melodygan_dagster.resources import OWNER, StoreResource

FAMILY_ASSETS = ("autoencoder_checkpoint", "gan_checkpoint", "generated_samples", "evaluation")


@dg.asset(
    ins={f"{family}_{name}": dg.AssetIn([family, name]) for family in FAMILIES for name in FAMILY_ASSETS},
    group_name="release",
    kinds={"html", "flac"},
    owners=[OWNER],
    code_version=VERSIONS["gallery"],
    automation_condition=AFTER_TRAINING,
    io_manager_key="records",
    dagster_type=RECORD,
)
def gallery(
    store: StoreResource, feature_table: Artifact, vocoder_checkpoint: Artifact, **of_families: Artifact
) -> dg.MaterializeResult:
    """A page to listen to: real, separated, reconstructed and generated sound; needs no network."""
    from melodygan_core import gallery as core

    families = [
        core.Family(
            family,
            vocoder=vocoder_checkpoint,
            autoencoder=of_families[f"{family}_autoencoder_checkpoint"],
            gan=of_families[f"{family}_gan_checkpoint"],
            samples=of_families[f"{family}_generated_samples"],
            evaluation=of_families[f"{family}_evaluation"],
        )
        for family in FAMILIES
    ]
    made = core.render(feature_table, families, store.open())
    page = f"{made.uri}/{made.metrics['page']}"
    return reporting.artifact(
        made,
        store,
        {
            "open": store.url(page),
            "page": dg.MetadataValue.path(str(store.open().at(page))),
            "distances": reporting.table(made.metrics["table"]),
        },
    )
