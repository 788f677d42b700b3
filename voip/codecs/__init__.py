"""The codec core: encodings by name, never by payload type."""
