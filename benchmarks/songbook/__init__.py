"""Tunes in the public domain, arranged and rendered with a General MIDI sound font; all notes are known."""
