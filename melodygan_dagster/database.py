"""Dagster's SQLite databases: whether they can be written, and one sentence for their errors."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from melodygan_core.errors import StorageError, database_reason, storage_reason

# How long another writer is waited for, as SQLAlchemy does.
TIMEOUT_S = 5.0
# Names of the files below DAGSTER_HOME, which Dagster creates; each run has a database of its own.
DATABASES = ("schedules/schedules.db", "history/runs.db", "history/runs/index.db")


def check(home: Path) -> None:
    """Checks that every database of an instance can be written; changes nothing.

    An instance without SQLite has none of them. A database of one run is left to `database_errors`.

    Args:
        home: DAGSTER_HOME.

    Raises:
        StorageError: one of them is locked, read-only or damaged.
    """
    for path in (home / name for name in DATABASES):
        if not path.exists():
            continue
        try:
            with closing(sqlite3.connect(path, timeout=TIMEOUT_S, isolation_level=None)) as connection:
                connection.execute("BEGIN IMMEDIATE")
                connection.execute("ROLLBACK")
        except sqlite3.Error as error:
            reason = database_reason(error, str(path))
            if not reason:
                raise
            raise StorageError(reason) from error


@contextmanager
def database_errors(home: Path) -> Iterator[None]:
    """Raises StorageError, one sentence with the file, for an error of Dagster's database inside the block.

    SQLAlchemy's error holds the statement and all its values, over a hundred lines, but not the file.

    Args:
        home: DAGSTER_HOME.
    """
    try:
        yield
    except Exception as error:
        if not database_reason(error):
            if isinstance(error, OSError) and storage_reason(error):
                raise StorageError(storage_reason(error)) from error
            raise
        # Names the file, if it is still unusable.
        check(home)
        raise StorageError(database_reason(error, str(home))) from error
