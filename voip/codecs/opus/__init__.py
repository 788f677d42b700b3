"""Opus (RFC 6716, RFC 8251) by libopus: packets read by us, coded by the library."""
