"""Inference: attention, the cache of keys and values, the engine, speculative decoding."""
