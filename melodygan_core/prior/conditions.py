"""Conditions that a prior is trained with: stems or tags, by name."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from melodygan_core.config import STEMS
from melodygan_core.errors import InputError
from melodygan_core.latents import LatentTable

UNTAGGED = "untagged"


class Conditions:
    """Which conditions each row of a latent table may be trained under.

    Args:
        kind: `none`, `stem` or `tag`.
        table: Its rows.
        rows: Those that are drawn.

    Raises:
        InputError: fewer than two conditions to tell apart.
    """

    def __init__(self, kind: str, table: LatentTable, rows: NDArray[np.int64]) -> None:
        if kind == "stem":
            self.of_row = [(str(s),) for s in table.stem]
        elif kind == "tag":
            self.of_row = [tags or (UNTAGGED,) for tags in table.tags]
        else:
            self.of_row = []
        # Of rows that are trained on: of any other the model would know nothing.
        present = {c for row in (rows if self.of_row else ()) for c in self.of_row[row]}
        order = STEMS if kind == "stem" else sorted(present)
        self.names = tuple(c for c in order if c in present)
        if kind != "none" and len(self.names) < 2:
            raise InputError(
                f"condition must have two or more values in the training data, got {kind!r} with {self.names}"
            )
        self._index = {
            int(r): [self.names.index(c) for c in self.of_row[r]] for r in (rows if self.of_row else ())
        }

    def sample(self, rows: NDArray[np.int64], rng: np.random.Generator) -> Tensor | None:
        """One condition for each row, at random among its own; None when there are none."""
        if not self.names:
            return None
        return torch.tensor([self._index[r][rng.integers(len(self._index[r]))] for r in rows.tolist()])

    def first(self, rows: NDArray[np.int64]) -> Tensor | None:
        """The first condition of each row, of any split; their number stands for none that is known."""
        if not self.names:
            return None
        known = [[self.names.index(c) for c in self.of_row[r] if c in self.names] for r in rows.tolist()]
        return torch.tensor([found[0] if found else len(self.names) for found in known])


def known_rows(own: Tensor, names: tuple[str, ...], pretrained: Tensor, known: tuple[str, ...]) -> Tensor:
    """The rows of an embedding of conditions, taken over from a trained one by name.

    Args:
        own: (conditions + k, width) as initialised; rows of unknown names stay.
        names: Of the conditions.
        pretrained: (known conditions + k, width); the last k rows stand for other things, and are taken over.
        known: Names of its conditions.
    """
    rows = own.clone()
    for index, name in enumerate(names):
        if name in known:
            rows[index] = pretrained[known.index(name)]
    rows[len(names) :] = pretrained[len(known) :]
    return rows


def compared(names: tuple[str, ...], known: tuple[str, ...]) -> str:
    """Which conditions a training takes over, begins anew and drops, to be read by people."""
    groups = {
        "kept": [name for name in names if name in known],
        "new": [name for name in names if name not in known],
        "dropped": [name for name in known if name not in names],
    }
    return "; ".join(f"{word} {', '.join(found)}" for word, found in groups.items() if found) or "none"
