"""The same interfaces in virtual time."""
