"""INT8: dynamic and static quantization, observers, training with it, and bit widths layer by layer."""
