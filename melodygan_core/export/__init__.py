"""Releases as ONNX: written with torch, used without it (`runtime`)."""
