"""What the demo needs: deterministic songs with known stems, and a loopback server."""
