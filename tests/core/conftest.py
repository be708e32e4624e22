"""Fixtures of what is made with a release."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from melodygan_core import release
from melodygan_core.config import replace
from melodygan_core.release import Release
from melodygan_core.storage import Store
from tests.conftest import copied, make_once
from tests.core.made import GENERATION, TEMPORAL_FLOW, TEMPORAL_PLAN, Trained
from tests.core.made_temporal import make_release


@pytest.fixture(scope="session")
def temporal_store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A store with a release of `temporal_gan`. All tests and workers share it, so none may change it."""

    def make(folder: Path) -> Store:
        store = Store(str(folder / "store"))
        make_release(store)
        return store

    return make_once(tmp_path_factory, "temporal-release", make)


@pytest.fixture(scope="session")
def temporal(temporal_store: Store) -> Release:
    """Its release."""
    return release.load(_folder(temporal_store))


@pytest.fixture(scope="session")
def flow_store(temporal_store: Store, tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A copy of that store with a release of `temporal_flow`, conditioned on tags. None may change it."""

    def make(folder: Path) -> Store:
        shutil.copytree(temporal_store.root, folder / "store")
        store = Store(str(folder / "store"))
        make_release(store, "flow", replace(TEMPORAL_FLOW, condition="tag"))
        return store

    return make_once(tmp_path_factory, "flow-release", make)


@pytest.fixture(scope="session")
def flow(flow_store: Store) -> Release:
    """Its release."""
    return release.load(_folder(flow_store, "temporal_flow"))


@pytest.fixture(scope="session")
def plan_store(temporal_store: Store, tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A copy of that store with a plan table and a release of `temporal_plan`. None may change it."""

    def make(folder: Path) -> Store:
        shutil.copytree(temporal_store.root, folder / "store")
        store = Store(str(folder / "store"))
        make_release(store, "plan", TEMPORAL_PLAN)
        return store

    return make_once(tmp_path_factory, "plan-release", make)


@pytest.fixture(scope="session")
def plan_release(plan_store: Store) -> Release:
    """Its release."""
    return release.load(_folder(plan_store, "temporal_plan"))


@pytest.fixture(scope="session")
def dense_release(dense: Trained, tmp_path_factory: pytest.TempPathFactory) -> Release:
    """A release of `dense_gan`."""

    def make(folder: Path) -> Path:
        trained = copied(dense, folder / "store")
        made = release.publish(
            trained.artifacts, trained.evaluation, trained.dataset, trained.store, GENERATION, None
        ).artifact
        return Path(str(trained.store.at(made.uri)))

    return release.load(make_once(tmp_path_factory, "dense-release", make))


@pytest.fixture(params=["dense", "temporal"])
def any_release(request: pytest.FixtureRequest) -> Release:
    """The release of each pipeline in turn."""
    return request.getfixturevalue({"dense": "dense_release", "temporal": "temporal"}[request.param])


@pytest.fixture
def temporal_folder(temporal_store: Store, tmp_path: Path) -> Path:
    """A copy of the release's folder that a test may change."""
    return Path(shutil.copytree(_folder(temporal_store), tmp_path / "release"))


def _folder(store: Store, pipeline: str = "temporal_gan") -> Path:
    made = store.record(f"{pipeline}/release")
    assert made is not None
    return Path(str(store.at(made.uri)))


@pytest.fixture
def flow_folder(flow_store: Store, tmp_path: Path) -> Path:
    """A copy of the folder of the release of `temporal_flow` that a test may change."""
    return Path(shutil.copytree(_folder(flow_store, "temporal_flow"), tmp_path / "flow-release"))


@pytest.fixture
def complete_store(own_dense: Trained) -> Store:
    """A store with everything from raw wavs to the evaluation, with records."""
    store = own_dense.store
    parts = own_dense.artifacts.parts.values()
    for made in (own_dense.dataset, *parts, own_dense.latents, own_dense.samples, own_dense.evaluation):
        store.write_record(made)
    return store
