"""The demo: deterministic songs with known stems, and a loopback server."""
