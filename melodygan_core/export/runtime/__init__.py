"""Sound from an exported folder by onnxruntime and numpy. No module of this package imports torch."""
