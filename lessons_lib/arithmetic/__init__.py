"""The arithmetic: affine quantization, number formats, NF4."""
