"""Removes a track from a store, with everything that it can be heard in or rebuilt from."""

from melodygan_core.maintenance.erasure.lineage import Mark, in_release, in_store, marks, of_artifact
from melodygan_core.maintenance.erasure.preview import Preview, preview
from melodygan_core.maintenance.erasure.removal import ForgetReport, forget, undo
from melodygan_core.maintenance.erasure.sentences import confirmation, describe, mark_line, undone

__all__ = [
    "ForgetReport",
    "Mark",
    "Preview",
    "confirmation",
    "describe",
    "forget",
    "in_release",
    "in_store",
    "mark_line",
    "marks",
    "of_artifact",
    "preview",
    "undo",
    "undone",
]
