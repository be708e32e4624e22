"""What `melodygan generate`, `transfer`, ... do with a release, as jobs that show what they made."""

import dataclasses
import importlib
from pathlib import Path

import dagster as dg

from melodygan_core.config import (
    VOCODERS,
    AugmentConfig,
    ConfigModel,
    ContinueConfig,
    GenerateConfig,
    GenerationConfig,
    InpaintConfig,
    InterpolateConfig,
    LoopConfig,
    ReconstructConfig,
    TransferConfig,
    VariationsConfig,
    from_dict,
    require,
    to_dict,
)
from melodygan_core.services.uses import USE_FILE
from melodygan_dagster import configs, private, reporting, service_runs
from melodygan_dagster.resources import Settings, StoreResource, deployed_config

OWN_FILE = (
    "A wav, flac, ogg, mp3, ... of the machine that runs this, in the folder of sources.yaml or below one of"
    " MELODYGAN_ALLOW_ROOTS."
)
_VOCODER = {
    "vocoder": dg.Field(
        configs.choice(VOCODERS),
        is_required=False,
        description="Vocoder to use instead of the release's own.",
    )
}
_DATASET = {
    "dataset": dg.Field(
        str,
        default_value="",
        description="A folder of sounds with labels, below the same folders as sounds; empty for this store's.",
    )
}


@dataclasses.dataclass(frozen=True)
class _Service:
    """A service that makes sounds of one request.

    Attributes:
        name: Of its op and job. Dagster takes no word of Python: not `continue`.
        request: Class of the request, or the defaults of its fields.
        implementation: `module:function` below melodygan_core.services, imported when it runs.
        description: For the UI.
    """

    name: str
    request: ConfigModel | type[ConfigModel]
    implementation: str
    description: str

    @property
    def kind(self) -> type[ConfigModel]:
        """Class of the request."""
        return self.request if isinstance(self.request, type) else type(self.request)


_SERVICES = (
    _Service(
        "reconstruct",
        ReconstructConfig,
        "reconstruct:reconstruct",
        "A sound through codec and vocoder: what the models keep of it.",
    ),
    _Service(
        "interpolate",
        InterpolateConfig,
        "interpolate:interpolate",
        "Sounds between two sounds, through the latents.",
    ),
    _Service(
        "transfer",
        TransferConfig,
        "transfer:transfer",
        "A sound with the timbre of another one, or of a tag; its melody and rhythm are kept.",
    ),
    _Service(
        "continuation",
        ContinueConfig,
        "continuation:continue_sound",
        "A sound that goes on; of a pipeline whose prior is a flow.",
    ),
    _Service(
        "inpaint",
        InpaintConfig,
        "continuation:inpaint",
        "A sound of which a part is made anew; of a pipeline whose prior is a flow.",
    ),
    _Service(
        "loop",
        LoopConfig,
        "loop:loop",
        "New sounds whose end goes over into their beginning; of a pipeline whose prior is a flow.",
    ),
    _Service(
        "variations",
        VariationsConfig,
        "variations:variations",
        "Variations of a sound; of a pipeline whose prior is a flow.",
    ),
)


def _schema(request: ConfigModel | type[ConfigModel]) -> dict[str, dg.Field]:
    """The launchpad's fields for a request; those of sound files say where the files may lie."""
    fields = configs.schema(request)
    for name in service_runs.sound_fields(request):
        field = fields[name]
        default = {"default_value": field.default_value} if field.default_provided else {}
        fields[name] = dg.Field(field.config_type, description=f"{field.description} {OWN_FILE}", **default)
    return fields


def build_jobs(names: list[str], generation: GenerationConfig) -> list[dg.JobDefinition]:
    """A job per service.

    Args:
        names: Pipelines whose releases can be used; the first is the default.
        generation: Defaults of `generate`.
    """
    pipeline = {
        "pipeline": dg.Field(
            configs.choice(tuple(names)),
            default_value=names[0],
            description="Whose release in use.",
        )
    }

    rows = (
        _Service(
            "generate",
            from_dict(GenerateConfig, to_dict(generation)),
            "generate:generate",
            "New pieces from the release in use.",
        ),
        *_SERVICES,
    )
    ops = [_op(service, pipeline, names) for service in rows]

    @dg.op(config_schema={**_DATASET, **configs.schema(AugmentConfig()), **pipeline, **_VOCODER})
    def augment(context: dg.OpExecutionContext, store: StoreResource, settings: Settings) -> None:
        """Variations of every sound of a labelled set, which keep its label; a re-executed run goes on."""
        from melodygan_core.services.augment import augment as service

        core_store, config = store.open(), context.op_config
        request = service_runs.request_of(context, AugmentConfig)
        opened = service_runs.release_in_use(store, config["pipeline"], service_runs.vocoder_of(context), names)
        with reporting.one_sentence_errors(), opened as (release, artifact):
            require(core_store.is_local, "store", store.root, "a local folder, to augment into")
            source = (
                service_runs.own_file(settings, config["dataset"], "dataset")
                if config["dataset"]
                else Path(core_store.base.path)
            )
            target = core_store.use("augment", context.run.root_run_id or context.run_id)
            result = service(release, source, Path(target.path), request, progress=service_runs.logged(context))
            core_store.write_json(target / USE_FILE, service_runs.use_note(context, artifact))
            rows = [{"file": row["file_name"], **row} for row in result.rows]
            service_runs.show(context, store, core_store.uri(target), rows, release.version)
            if result.failed:
                failed = [{"sound": k, "reason": v} for k, v in result.failed.items()]
                raise private.OneSentenceFailure(
                    f"{len(failed)} sounds could not be varied; the others were",
                    {reporting.FAILED: reporting.first_rows(failed)},
                )

    return [_job(op) for op in (*ops, augment)]


def _op(service: _Service, pipeline: dict[str, dg.Field], names: list[str]) -> dg.OpDefinition:
    """The op of a service that makes sounds into a new folder."""

    @dg.op(
        name=service.name,
        description=service.description,
        config_schema={**_schema(service.request), **pipeline, **_VOCODER},
    )
    def op(context: dg.OpExecutionContext, store: StoreResource, settings: Settings) -> None:
        module, _, function = service.implementation.partition(":")
        make = getattr(importlib.import_module(f"melodygan_core.services.{module}"), function)
        config, progress = (
            service_runs.request_of(context, service.kind, settings),
            service_runs.logged(context),
        )
        service_runs.run(
            context, store, names, lambda release, out: make(release, config, out, progress=progress)
        )

    return op


def _job(op: dg.OpDefinition) -> dg.JobDefinition:
    @dg.job(name=f"{op.name}_job", description=op.description, executor_def=dg.in_process_executor)
    def job() -> None:
        op()

    return job


@dg.definitions
def services() -> dg.Definitions:
    """A job per service, for the releases of this deployment's pipelines."""
    config = deployed_config()
    return dg.Definitions(jobs=build_jobs(list(config.train), config.generation))
