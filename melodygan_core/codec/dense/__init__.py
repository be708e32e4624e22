"""The dense codec: model and training task."""
