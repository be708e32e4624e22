"""The asset graph over `melodygan_core`."""
