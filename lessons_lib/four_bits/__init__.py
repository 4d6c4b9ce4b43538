"""Four bits: groups, GPTQ, AWQ, packed layers, LoRA and QLoRA."""
