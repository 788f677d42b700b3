"""Secure RTP (RFC 3711, 6188, 6904, 7714): keys and packets in, packets out, and no socket."""
