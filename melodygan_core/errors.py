"""What can go wrong, told apart by what to do about it."""

from __future__ import annotations


class MelodyGANError(Exception):
    """Base of every error that this package raises on purpose."""


class InputError(MelodyGANError, ValueError):
    """The caller gave a value that is not allowed; the message names both."""


class TrackError(MelodyGANError):
    """This track will never work as it is (404, removed, too long, no audio): do not retry."""


class TransientError(MelodyGANError):
    """It failed now and may work later (time-out, 5xx, connection reset): retry."""
