"""Passes the record of an artifact, not the artifact itself, from one unpartitioned asset to the next."""

import dagster as dg

from melodygan_core.storage import Artifact
from melodygan_dagster import private
from melodygan_dagster.reporting import one_sentence_errors
from melodygan_dagster.resources import StoreResource

RECORD = dg.PythonObjectDagsterType(Artifact, name="Artifact", description="A finished folder of the store.")


class ArtifactRecords(dg.ConfigurableIOManager):
    """Keeps the Artifact of each asset under `records/` of the store, which outlives Dagster's database."""

    store: dg.ResourceDependency[StoreResource]

    def handle_output(self, context: dg.OutputContext, obj: Artifact) -> None:
        """Records the artifact as the asset's current one."""
        assert obj.name == context.asset_key.to_user_string(), (obj.name, context.asset_key)
        with one_sentence_errors():
            self.store.open().write_record(obj)

    def load_input(self, context: dg.InputContext) -> Artifact:
        """Returns the current artifact of an upstream asset.

        Raises:
            dg.Failure: the asset was never materialized into this store.
        """
        name = context.asset_key.to_user_string()
        with one_sentence_errors():
            artifact = self.store.open().record(name)
        if artifact is None:
            raise private.OneSentenceFailure(f"{name} is not in {self.store.root} yet: materialize it first")
        return artifact
