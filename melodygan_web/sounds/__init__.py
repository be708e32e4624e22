"""The sounds of a store as a web page shows them: list, peaks, spectrograms, stars, uploads and archives."""

from melodygan_web.sounds.listing import Sound, SoundIndex, sound_id

__all__ = ["Sound", "SoundIndex", "sound_id"]
