"""A request of ours, and whoever waits for what becomes of it."""

from __future__ import annotations

import asyncio

from voip.errors import RequestError
from voip.session.failures import unreachable
from voip.session.stack import Stack
from voip.sip.client_request import ClientRequest
from voip.sip.events import Cause, RequestDone, RequestFailed, SipEvent
from voip.sip.message import Response

__all__ = ["ask", "wait_no_longer"]


async def ask(stack: Stack, handle: ClientRequest, whom: str) -> Response:
    """Send what the agent has made, and return the 2xx; `RequestError` for anything else."""
    answer: asyncio.Future[SipEvent] = asyncio.get_running_loop().create_future()

    def on_event(event: SipEvent) -> None:
        stack.watchers.pop(handle, None)
        if not answer.done():
            answer.set_result(event)

    stack.watchers[handle] = on_event
    stack.asked.add(answer)
    method = handle.request.method
    try:
        stack.signalling.flush()
        event = await answer
    finally:
        stack.asked.discard(answer)
        stack.watchers.pop(handle, None)
    match event:
        case RequestDone(_, response) if response.status < 300:
            return response
        case RequestDone(_, response):
            raise RequestError(
                f"{whom} refuses the {method}: {response.reason} ({response.status})",
                status=response.status,
                response=response,
            )
        case RequestFailed(_, status, reason, Cause.TRANSPORT):
            raise unreachable(f"{method} to {whom}: {reason}", status)
        case RequestFailed(_, status, reason, cause):
            hint = "is the password right?" if cause is Cause.AUTHENTICATION else ""
            raise RequestError(f"{method} to {whom}: {reason}", status=status, hint=hint)
        case _:
            raise RequestError(f"{method} to {whom}: {event}")


def wait_no_longer(stack: Stack) -> None:
    """Tell all who wait that there will be no answer: nothing comes in any more."""
    for answer in stack.asked:
        if not answer.done():
            answer.set_exception(RequestError("the phone was closed", hint="make another one"))
