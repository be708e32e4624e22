"""The music that models learn from: tracks of the catalogue, their sounds and stems, and their erasure."""

from melodygan_web.library.index import LibraryIndex, LibrarySound, LibraryTrack, Problem

__all__ = ["LibraryIndex", "LibrarySound", "LibraryTrack", "Problem"]
