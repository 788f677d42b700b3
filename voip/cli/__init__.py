"""The command line: `voip ...`."""
