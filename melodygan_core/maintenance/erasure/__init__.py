"""Taking a track out of a store, with everything that its sound can be heard in or rebuilt from."""

from melodygan_core.maintenance.erasure.marking import Mark, in_release, in_store, marks, of_artifact
from melodygan_core.maintenance.erasure.removal import Forgotten, forget, recall, resolve

__all__ = ["Forgotten", "Mark", "forget", "in_release", "in_store", "marks", "of_artifact", "recall", "resolve"]
