"""Everything that can be heard, on one page."""

import dagster as dg

from melodygan_core.config import VERSIONS
from melodygan_core.gallery import assets
from melodygan_core.storage import Artifact
from melodygan_dagster import private, reporting
from melodygan_dagster.conditions import GALLERY
from melodygan_dagster.io_managers import RECORD
from melodygan_dagster.pipelines import DeployedPipeline, deployed_pipelines
from melodygan_dagster.resources import OWNER, StoreResource


def build_asset(pipelines: list[DeployedPipeline]) -> dg.AssetsDefinition:
    """The gallery of some pipelines; those without a sample yet are left out and named."""

    @dg.asset(
        deps=[dg.AssetKey([p.name, name]) for p in pipelines for name in ("generated_samples", "evaluation")],
        ins={"feature_table": dg.AssetIn("feature_table")},
        group_name="gallery",
        kinds={"html", "flac"},
        owners=[OWNER],
        code_version=f"{VERSIONS['gallery']}-{assets.version()}",
        automation_condition=GALLERY,
        io_manager_key="records",
        dagster_type=RECORD,
    )
    def gallery(store: StoreResource, feature_table: Artifact) -> dg.MaterializeResult:
        """A page to listen to: real, separated, reconstructed and generated sound; needs no network."""
        from melodygan_core.gallery import render as core

        core_store = store.open()
        found = {p.name: p.gallery_entry(core_store) for p in pipelines}
        entries = [entry for entry in found.values() if entry is not None]
        missing = [name for name, entry in found.items() if entry is None]
        if not entries:
            reason = f"no pipeline has samples and an evaluation yet: {', '.join(missing)}"
            raise private.OneSentenceFailure(reason)
        made = core.render(feature_table, entries, core_store)
        page = f"{made.uri}/{made.metrics['page']}"
        metadata = {
            "open": store.url(page),
            "page": dg.MetadataValue.path(str(core_store.at(page))),
            "pipelines": ", ".join(e.name for e in entries),
            "distances": reporting.table(made.metrics["table"]),
        }
        if missing:
            metadata["left_out"] = ", ".join(missing)
        return reporting.artifact(made, store, metadata)

    return gallery


@dg.definitions
def galleries() -> dg.Definitions:
    """The gallery of the trained pipelines."""
    return dg.Definitions(assets=[build_asset(deployed_pipelines())])
