"""Recordings: from a ring to files of several formats, with what is to be known about them."""
