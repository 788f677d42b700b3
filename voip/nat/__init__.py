"""What helps through NATs, without I/O: STUN messages."""
