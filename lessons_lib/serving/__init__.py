"""Serving: export to ONNX, other runtimes, batching, the server and its load test."""
