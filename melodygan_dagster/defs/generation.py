"""GAN -> sound."""

from functools import partial

import dagster as dg

from melodygan_core.config import FAMILIES, VERSIONS, GenerationConfig
from melodygan_core.storage.store import Artifact
from melodygan_dagster import configs, reporting
from melodygan_dagster.conditions import AFTER_TRAINING
from melodygan_dagster.io_managers import RECORD
from melodygan_dagster.resources import OWNER, StoreResource, deployed_preset

PICTURES = 3


def _of(family: str) -> dg.AssetsDefinition:
    @dg.asset(
        key_prefix=family,
        ins={
            "gan_checkpoint": dg.AssetIn(key_prefix=family),
            "autoencoder_checkpoint": dg.AssetIn(key_prefix=family),
        },
        group_name=family,
        kinds={"wav", "parquet"},
        owners=[OWNER],
        code_version=VERSIONS["generation"],
        automation_condition=AFTER_TRAINING,
        io_manager_key="records",
        dagster_type=RECORD,
        config_schema=configs.schema(deployed_preset().generation),
    )
    def generated_samples(
        context: dg.AssetExecutionContext,
        store: StoreResource,
        gan_checkpoint: Artifact,
        autoencoder_checkpoint: Artifact,
        vocoder_checkpoint: Artifact,
        feature_table: Artifact,
    ) -> dg.MaterializeResult:
        """New sound: noise, latents, vectors, log-mel, wav; each sample with its provenance and licences."""
        from melodygan_core import audio, generation
        from melodygan_core.audio import plots

        core_store = store.open()
        config = configs.config_of(context, GenerationConfig)
        made = generation.generate(
            gan_checkpoint, autoencoder_checkpoint, vocoder_checkpoint, feature_table, core_store, config
        )
        shown: dict[str, dg.MetadataValue] = {}
        with core_store.reading(core_store.at(made.uri)) as folder:
            for sample in made.metrics["samples"][:PICTURES]:
                wav, sample_rate = audio.read_wav(folder / sample["file"])
                picture = partial(plots.sound_png, audio.to_mono(wav), sample_rate, width=4.0)
                uri = f"{made.uri}/{sample['file']}"
                shown[f"picture_{sample['index']}"] = reporting.image(store, uri.removesuffix(".wav"), picture)
                shown[f"listen_{sample['index']}"] = store.url(uri)
        return reporting.artifact(made, store, {**shown, "samples": reporting.table(made.metrics["samples"])})

    return generated_samples


samples_of_families = [_of(family) for family in FAMILIES]
