"""The temporal codec: model and training task."""
