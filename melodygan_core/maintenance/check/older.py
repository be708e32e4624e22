"""Recognises what version 0.1 made, which named an autoencoder and a GAN together as a family.

Its tracks, features and datasets are used as they are. Its models are kept: their releases still generate, and
nothing continues from them.
"""

from __future__ import annotations

from melodygan_core.maintenance.check.artifacts import read
from melodygan_core.maintenance.check.report import UNREADABLE, Snapshot, read_object
from melodygan_core.storage import Store
from melodygan_core.storage.kinds import (
    EVALUATION,
    GALLERY,
    MODEL,
    OLD_FAMILIES,
    RELEASE,
    SAMPLES,
    Kind,
    Parsed,
)
from melodygan_core.storage.listing import store_files

# Version 0.1 wrote the family into this file of a model's folder.
CONFIG = "config.json"
_NAMES = {
    MODEL: ("model", "models"),
    RELEASE: ("release", "releases"),
    EVALUATION: ("evaluation", "evaluations"),
    SAMPLES: ("set of samples", "sets of samples"),
    GALLERY: ("gallery", "galleries"),
}


def older_models(store: Store) -> str:
    """One sentence about the models and releases of version 0.1 in a store, and what to do; empty for none.

    They are superseded, not damaged: nothing removes them.
    """
    snapshot = Snapshot(store, store_files(store, tuple(kind.top for kind in _NAMES)))
    found: set[str] = set()
    counts: list[str] = []
    for kind, (one, several) in _NAMES.items():
        families = [f for parsed in snapshot.of(kind).values() if (f := _families(snapshot, kind, parsed))]
        found = found.union(*families)
        if families:
            counts.append(f"{len(families)} {one if len(families) == 1 else several}")
    if not counts:
        return ""
    which = f"{'family' if len(found) == 1 else 'families'} {', '.join(sorted(found))}"
    releases = any(_families(snapshot, RELEASE, parsed) for parsed in snapshot.of(RELEASE).values())
    advice = ", or use the releases with `melodygan generate`" if releases else ""
    return f"{', '.join(counts)} of version 0.1 ({which}): train again{advice}"


def _families(snapshot: Snapshot, kind: Kind, parsed: Parsed) -> set[str]:
    """The families that an artifact was made for; empty for what a later version made."""
    if "pipeline" in parsed.fields:
        return {parsed.fields["pipeline"]} & set(OLD_FAMILIES)
    store = snapshot.store
    try:
        if kind is GALLERY:
            inputs = read(store, parsed.uri).inputs
            return {f for f in OLD_FAMILIES if f"{f}/generated_samples" in inputs}
        if f"{parsed.uri}/{CONFIG}" not in snapshot.files:
            return set()
        family = read_object(store, store.at(f"{parsed.uri}/{CONFIG}")).get("family")
        return {str(family)} if family else set()
    except UNREADABLE:
        return set()  # The check reports it.
