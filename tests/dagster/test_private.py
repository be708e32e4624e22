"""What the project uses of Dagster's private modules: each fails here when an upgrade changes it."""

import os
import re
from pathlib import Path

import dagster as dg
import pytest
from starlette.testclient import TestClient

from melodygan_core.errors import InputError, TransientError
from melodygan_dagster import private, reporting
from melodygan_dagster.track_scheduling import NOT_FINISHED_STATUSES

PACKAGE = Path(private.__file__).parent
KEY = dg.AssetKey("second")
PARTITIONS = dg.StaticPartitionsDefinition(["a", "b", "c"])


@dg.asset(code_version="1")
def first() -> dg.MaterializeResult:
    return dg.MaterializeResult(data_version=dg.DataVersion("one"))


@dg.asset(
    deps=[first],
    code_version="2",
    check_specs=[
        dg.AssetCheckSpec("good", asset="second", blocking=True),
        dg.AssetCheckSpec("bad", asset="second", blocking=True),
        dg.AssetCheckSpec("note", asset="second"),
    ],
)
def second() -> dg.MaterializeResult:
    passed = {"good": True, "bad": False, "note": False}
    return dg.MaterializeResult(
        data_version=dg.DataVersion("two"),
        check_results=[dg.AssetCheckResult(passed=p, check_name=n) for n, p in passed.items()],
    )


@dg.asset(partitions_def=PARTITIONS, backfill_policy=dg.BackfillPolicy.single_run())
def third(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
    return dg.MaterializeResult(metadata={"keys": ",".join(context.partition_keys)})


def test_only_one_module_imports_private_modules() -> None:
    importing = {
        path.relative_to(PACKAGE).as_posix()
        for path in PACKAGE.rglob("*.py")
        if re.search(r"^\s*(from|import) dagster[\w.]*\._", path.read_text("utf-8"), re.MULTILINE)
    }
    assert importing == {"private.py"}


def test_types_are_those_of_the_public_functions() -> None:
    assert isinstance(dg.define_asset_job("job", "*"), private.AssetJob)
    assert isinstance(dg.Definitions([first]).resolve_asset_graph(), private.AssetGraph)


def test_versions_and_provenance_are_those_of_a_returned_result(instance: dg.DagsterInstance) -> None:
    dg.materialize([first, second], instance=instance, raise_on_error=False)
    event = instance.get_latest_materialization_event(KEY)
    assert event is not None and event.asset_materialization is not None
    made = event.asset_materialization
    assert private.data_version_of(made) == "two"
    assert private.data_version_of(None) == ""
    tags = private.provenance_tags(instance, "two", "2", {first.key: None})
    assert tags == made.tags
    assert private.data_version_tags("two").items() <= tags.items()


def test_the_tags_of_a_run_select_its_partitions(instance: dg.DagsterInstance) -> None:
    job = dg.Definitions([third]).resolve_implicit_global_asset_job_def()
    tags = {private.RANGE_START: "a", private.RANGE_END: "b", private.REPOSITORY: "__repository__@melodygan"}
    run = job.execute_in_process(instance=instance, tags=tags).dagster_run
    assert instance.get_materialized_partitions(third.key) == {"a", "b"}
    # What the UI writes itself.
    assert run.tags[".dagster/repository"] == "__repository__@melodygan"
    result = dg.materialize([third], instance=instance, partition_key="c")
    assert result.dagster_run.tags[private.PARTITION] == "c"


def test_results_of_checks_are_read_back(instance: dg.DagsterInstance) -> None:
    graph = dg.Definitions([first, second]).resolve_asset_graph()
    assert private.failed_blocking_checks(instance, graph, [KEY]) == ["bad", "good"]
    runs = [dg.materialize([first, second], instance=instance, raise_on_error=False).run_id for _ in range(2)]
    assert private.failed_blocking_checks(instance, graph, [KEY]) == ["bad"]
    read = list(private.evaluations(instance, dg.AssetCheckKey(KEY, "note"), limit=10))
    assert [run_id for run_id, _ in read] == runs[::-1]
    assert {evaluation.passed for _, evaluation in read} == {False}


def test_the_process_of_a_run_is_read_back(instance: dg.DagsterInstance) -> None:
    run_id = dg.materialize([first], instance=instance).run_id
    assert list(private.worker_processes(instance, run_id)) == [os.getpid()]


def _raise(error: Exception) -> list[str]:
    @dg.op
    def fails() -> None:
        with reporting.one_sentence_errors():
            raise error

    @dg.job
    def job() -> None:
        fails()

    result = job.execute_in_process(raise_on_error=False)
    return [private.failure_reason(e) for e in result.all_events if e.is_step_failure]


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (InputError("hop_length must be positive, got -1"), "hop_length must be positive, got -1"),
        (dg.Failure("2 tracks failed"), "2 tracks failed"),
        (KeyError("name"), "KeyError: 'name'"),
    ],
)
def test_the_reason_of_a_failure_is_the_errors_own(error: Exception, reason: str) -> None:
    assert _raise(error) == [reason]


def test_an_error_that_is_not_caught_loses_dagsters_sentences() -> None:
    @dg.op
    def fails() -> None:
        raise InputError("seed must be positive, got -1")

    @dg.job
    def job() -> None:
        fails()

    result = job.execute_in_process(raise_on_error=False)
    [event] = [e for e in result.all_events if e.is_step_failure]
    assert private.failure_reason(event) == "seed must be positive, got -1"


def _failure(error: Exception, retries: int | None = None) -> tuple[dg.ExecuteInProcessResult, dg.DagsterEvent]:
    policy = None if retries is None else dg.RetryPolicy(max_retries=retries)

    @dg.asset(retry_policy=policy)
    def fails() -> None:
        with reporting.one_sentence_errors():
            raise error

    result = dg.materialize([fails], raise_on_error=False)
    [event] = [e for e in result.all_events if e.is_step_failure]
    return result, event


@pytest.mark.parametrize("error_class", [InputError, TransientError])
def test_an_error_of_the_core_is_one_sentence_without_a_stack_trace(error_class: type[Exception]) -> None:
    result, event = _failure(error_class("hop_length must be positive, got -1"))
    [run] = [e for e in result.all_events if e.event_type == dg.DagsterEventType.RUN_FAILURE]
    for error in (event.step_failure_data.error, run.job_failure_data.error):
        assert error is not None
        assert error.to_string() == "hop_length must be positive, got -1"
        assert (error.stack, error.cause, error.context) == ([], None, None)


def test_a_failure_keeps_its_description_and_metadata() -> None:
    failure = private.OneSentenceFailure("2 tracks failed", {"tracks": dg.MetadataValue.int(2)})
    _, event = _failure(failure)
    data = event.step_failure_data.user_failure_data
    assert data is not None
    assert (data.description, data.metadata) == ("2 tracks failed", {"tracks": dg.MetadataValue.int(2)})
    assert isinstance(failure, dg.Failure)


@pytest.mark.parametrize(("error_class", "attempts"), [(TransientError, 3), (InputError, 1)])
def test_a_retry_policy_applies_to_transient_errors_only(error_class: type[Exception], attempts: int) -> None:
    result, event = _failure(error_class("the server does not answer"), retries=2)
    starts = (dg.DagsterEventType.STEP_START, dg.DagsterEventType.STEP_RESTARTED)
    assert len([e for e in result.all_events if e.event_type in starts]) == attempts
    assert private.failure_reason(event) == "the server does not answer"


def test_every_failure_of_the_package_is_one_sentence() -> None:
    raising = [p.name for p in PACKAGE.rglob("*.py") if "raise dg.Failure" in p.read_text("utf-8")]
    assert raising == []


def test_a_bug_keeps_its_stack_trace() -> None:
    _, event = _failure(KeyError("name"))
    error = event.step_failure_data.error
    assert error is not None and error.cause is not None and error.cause.stack


def test_a_place_in_a_pool_is_given_back(instance: dg.DagsterInstance) -> None:
    storage = instance.event_log_storage
    storage.initialize_concurrency_limit_to_default("gpu")
    assert storage.claim_concurrency_slot("gpu", "run", "step").is_claimed
    assert not storage.claim_concurrency_slot("gpu", "other", "step").is_claimed
    private.free_pool_slots(instance, "run")
    assert storage.claim_concurrency_slot("gpu", "other", "step").is_claimed
    with dg.DagsterInstance.ephemeral() as without_pools:
        private.free_pool_slots(without_pools, "run")


def test_unfinished_statuses_are_dagsters() -> None:
    from dagster._core.storage.dagster_run import NOT_FINISHED_STATUSES as DAGSTERS

    assert set(NOT_FINISHED_STATUSES) == set(DAGSTERS)


def test_the_web_app_answers_queries_and_shows_pages(instance: dg.DagsterInstance, tmp_path: Path) -> None:
    workspace = tmp_path / "workspace.yaml"
    workspace.write_text("load_from: []", "utf-8")
    with private.webserver(instance, workspace) as app:
        client = TestClient(app)
        query = "{ version, workspaceOrError { ... on Workspace { locationEntries { name } } } }"
        answer = client.post("/graphql", json={"query": query}).json()["data"]
        assert answer == {"version": dg.__version__, "workspaceOrError": {"locationEntries": []}}
        assert "__NEXT_DATA__" in client.get("/assets").text
