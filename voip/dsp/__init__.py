"""Array DSP, batch-first: every function takes `(streams, samples)`."""
