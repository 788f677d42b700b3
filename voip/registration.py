"""Keeping an account registered, in the event loop."""

from __future__ import annotations


class Registrar:
    def __init__(self, account, stack, tell):
        self.registered = False

    async def start(self):
        pass

    async def stop(self):
        pass

    def on_event(self, e):
        pass
