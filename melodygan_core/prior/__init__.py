"""Models over a codec's latents."""
