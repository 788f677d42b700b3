"""The media engine: one tick for all streams. No thread, no socket, no clock inside."""
