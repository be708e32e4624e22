"""Fixtures of what is made with a release."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from melodygan_core import release
from melodygan_core.release import Release
from melodygan_core.storage.store import Store
from tests.core.made_temporal import make_release


@pytest.fixture(scope="session")
def temporal_store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A store with a release of the temporal family; shared, so nobody may change it."""
    store = Store(str(tmp_path_factory.mktemp("temporal") / "store"))
    make_release(store)
    return store


@pytest.fixture(scope="session")
def temporal(temporal_store: Store) -> Release:
    """Its release."""
    return release.load(_folder(temporal_store))


@pytest.fixture
def temporal_folder(temporal_store: Store, tmp_path: Path) -> Path:
    """A copy of the release's folder that a test may change."""
    return Path(shutil.copytree(_folder(temporal_store), tmp_path / "release"))


def _folder(store: Store) -> Path:
    made = store.record("temporal/release")
    assert made is not None
    return Path(str(store.at(made.uri)))
