"""Child processes with limits, the network guard and ffmpeg: untrusted bytes are handled here."""
