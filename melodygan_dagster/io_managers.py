"""Hands the record of an artifact, not the artifact, from one unpartitioned asset to the next."""

import dagster as dg

from melodygan_core.storage.store import Artifact
from melodygan_dagster.resources import StoreResource

RECORD = dg.PythonObjectDagsterType(Artifact, name="Artifact", description="A finished folder of the store.")


class ArtifactRecords(dg.ConfigurableIOManager):
    """Keeps each asset's Artifact under `records/` of the store, which outlives Dagster's own database."""

    store: dg.ResourceDependency[StoreResource]

    def handle_output(self, context: dg.OutputContext, obj: Artifact) -> None:
        """Names the artifact as the one in use."""
        assert obj.name == context.asset_key.to_user_string(), (obj.name, context.asset_key)
        self.store.open().write_record(obj)

    def load_input(self, context: dg.InputContext) -> Artifact:
        """The artifact in use of an upstream asset."""
        name = context.asset_key.to_user_string()
        artifact = self.store.open().record(name)
        if artifact is None:
            raise dg.Failure(f"{name} has not been made yet in {self.store.root}: materialize it first")
        return artifact
