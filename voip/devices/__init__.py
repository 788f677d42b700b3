"""Sound devices: those of this machine, and some made of nothing, a tone, files or callbacks."""
