"""RTP, RTCP, telephone-event and jitter policy: bytes and arrays in, bytes and arrays out."""
