"""Child processes with limits, the network guard and ffmpeg: where strangers' bytes are handled."""
