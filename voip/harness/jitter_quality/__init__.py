"""How the jitter buffer does: speech over traces of packets, by delay, gaps and PESQ."""
