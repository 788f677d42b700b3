"""Telephony software that nobody here wrote, started for one test and stopped after it.

Every peer is a context manager that takes free ports of its own, keeps its logs in the directory
it is given, and is stopped by pid. `make peers` installs them; `installed.py` says what is there.
"""
