"""Plans as Parquet: one row per token."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from melodygan_core.config import require
from melodygan_core.errors import InputError
from melodygan_core.plan.grid import Grid
from melodygan_core.plan.plan import COLUMNS, Plan
from melodygan_core.storage import replacing
from melodygan_core.text import terminal_text

# An hour of tokens of 93 ms, and as much more; a file may claim to hold anything.
MAX_TOKENS = 100_000
_MAX_BYTES = 100_000_000
_META = b"melodygan_plan"


def plan_table(plan: Plan, source: Mapping[str, str] | None = None) -> pa.Table:
    """Returns a plan as a table, one row per token; the schema's metadata holds grid, parts and source.

    Args:
        plan: Any.
        source: The track that it was taken from: its id, title, url and licence.
    """
    columns = {name: _column(getattr(plan, name), width) for name, (width, _) in COLUMNS.items()}
    facts: dict[str, Any] = {
        "token_s": plan.grid.token_s,
        "lead_s": plan.grid.lead_s,
        "given": sorted(plan.given),
    }
    facts |= {"source": dict(source)} if source else {}
    return pa.table(columns).replace_schema_metadata({_META: json.dumps(facts)})


def _column(values: np.ndarray, width: int) -> pa.Array:
    flat = pa.array(values.reshape(-1))
    return flat if width == 1 else pa.FixedSizeListArray.from_arrays(flat, width)


def plan_of_columns(columns: pa.Table, grid: Grid, given: frozenset[str]) -> Plan:
    """Returns the plan of a table's columns, checked.

    Raises:
        InputError: a column is missing, or of another type, size or range.
    """
    values: dict[str, Any] = {}
    for name, (width, kind) in COLUMNS.items():
        require(name in columns.column_names, "columns", columns.column_names, f"those of a plan with {name}")
        column = columns[name].combine_chunks()
        element = column.type.value_type if pa.types.is_fixed_size_list(column.type) else column.type
        listed = column.type.list_size if pa.types.is_fixed_size_list(column.type) else 1
        good = listed == width and element == pa.from_numpy_dtype(kind) and not column.null_count
        require(good, name, column.type, f"{width} values of {np.dtype(kind)} per token")
        flat = (column.flatten() if width > 1 else column).to_numpy(zero_copy_only=False).astype(kind)
        values[name] = flat.reshape(-1, width) if width > 1 else flat
    return Plan(grid, **values, given=given)


def write_plan(path: Path, plan: Plan, source: Mapping[str, str] | None = None) -> None:
    """Writes a plan; the file appears complete or not at all. See `plan_table`."""
    with replacing(path) as temporary:
        pq.write_table(plan_table(plan, source), temporary, compression="zstd")


def plan_source(path: Path) -> dict[str, str]:
    """Returns the track that the plan of a file was taken from, as plain text; empty for none.

    The file may be a stranger's, and `read_plan` has read it.
    """
    facts = json.loads((pq.read_schema(path).metadata or {}).get(_META, b"{}"))
    source = facts.get("source")
    if not isinstance(source, dict):
        return {}
    return {str(k)[:40]: terminal_text(str(v))[:500] for k, v in list(source.items())[:8]}


def read_plan(path: Path) -> Plan:
    """Returns the plan of a file, which may be a stranger's.

    Raises:
        InputError: it is no plan, is too large, or holds other values than a plan.
    """
    size = path.stat().st_size
    require(size <= _MAX_BYTES, path.name, f"{size} bytes", f"a plan of at most {_MAX_BYTES} bytes")
    try:
        source = pq.ParquetFile(path)
        facts = (source.schema_arrow.metadata or {}).get(_META)
        rows = source.metadata.num_rows
        sizes = [source.metadata.row_group(k).total_byte_size for k in range(source.metadata.num_row_groups)]
        require(rows <= MAX_TOKENS, path.name, f"{rows} tokens", f"a plan of at most {MAX_TOKENS} tokens")
        require(sum(sizes) <= _MAX_BYTES, path.name, f"{sum(sizes)} bytes", f"at most {_MAX_BYTES} bytes")
        columns = source.read(columns=list(COLUMNS))
        grid, given = _facts(json.loads(facts or b"{}"))
    except (pa.ArrowException, OSError, ValueError, TypeError, KeyError) as error:
        raise InputError(f"{path.name} must be a plan that this program wrote, got {error!s:.200}") from error
    return plan_of_columns(columns, grid, given)


def _facts(facts: Mapping[str, Any]) -> tuple[Grid, frozenset[str]]:
    return Grid(float(facts["token_s"]), float(facts["lead_s"])), frozenset(map(str, facts["given"]))
