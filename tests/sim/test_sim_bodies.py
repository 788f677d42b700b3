"""Calls whose messages carry more than a session description, or something else (RFC 5621)."""

from __future__ import annotations

from base64 import encodebytes

import pytest
from flow_scene import SERVER, Scene, Stranger, lossy

from voip.call import Call
from voip.events import CallState, MessageReceived
from voip.sip.dialog import Dialog
from voip.sip.events import IncomingInvite, Provisional, ReinviteReceived, RequestDone, SipEvent
from voip.sip.message import Response
from voip.types import Address

pytestmark = pytest.mark.rfc("5621", "3")

SDP = (
    b"v=0\r\no=- 7 1 IN IP4 10.0.0.1\r\ns=-\r\nc=IN IP4 10.0.0.1\r\nt=0 0\r\n"
    b"m=audio 41000 RTP/AVP 8\r\n"
)
MIXED = "multipart/mixed;boundary=unique-boundary-1"


def parts(handling: str = "optional", sdp: bytes = SDP) -> bytes:
    """A call from the telephone network: its description, and what the network says of it."""
    return (
        b"--unique-boundary-1\r\nContent-Type: application/sdp\r\n\r\n%b\r\n"
        b"--unique-boundary-1\r\nContent-Type: application/isup;version=itu-t92+\r\n"
        b"Content-Disposition: signal;handling=%b\r\n\r\n\x01\x00\x49\x00\x00\r\n"
        b"--unique-boundary-1--\r\n" % (sdp, handling.encode())
    )


class Trunk(Stranger):
    """The telephone network's side of a gateway: whoever calls it is answered in parts."""

    def _on_event(self, event: SipEvent) -> None:
        if not isinstance(event, IncomingInvite | ReinviteReceived):
            super()._on_event(event)
            return
        again = isinstance(event, ReinviteReceived)
        sdp = SDP.replace(b"7 1 IN", b"7 2 IN") + b"a=recvonly\r\n" if again else SDP
        contact = None if again else "<sip:trunk@10.0.0.1:5070>"
        now = self._endpoint.now()
        if not again:
            self._agent.respond(
                event.invite, 183, contact=contact, body=parts(), content_type=MIXED, now=now
            )
        self._agent.respond(
            event.invite, 200, contact=contact, body=parts(sdp=sdp), content_type=MIXED, now=now
        )


@lossy
def test_a_call_with_parts_is_answered_by_its_session_description(loss: float) -> None:
    scene = Scene(loss)

    async def main() -> None:
        bob, calls = await scene.answering()
        async with Stranger(scene) as caller:
            uri = f"sip:bob@{SERVER}"
            response = await caller.invite(uri, body=parts(), content_type=MIXED)
            assert (response.status, response.content_type) == (200, "application/sdp")
            assert b" RTP/AVP 8" in response.body
            call = await calls.get()
            agreed = call._session.media.agreed
            assert agreed is not None
            assert agreed.remote_rtp == Address("10.0.0.1", 41000)
            assert (await call.wait_ended()).by is not None
        await scene.settled(bob)
        await bob.close()

    scene.run(main)


@lossy
def test_a_call_with_a_part_that_has_to_be_understood_and_is_not_is_refused(loss: float) -> None:
    scene = Scene(loss)

    async def main() -> None:
        bob, calls = await scene.answering()
        async with Stranger(scene) as caller:
            uri = f"sip:bob@{SERVER}"
            refused = await caller.invite(uri, body=parts("required"), content_type=MIXED)
            assert refused.status == 415
            assert refused.headers.values("Accept") == [
                "application/sdp",
                "multipart/mixed",
                "multipart/alternative",
            ]
            torn = await caller.invite(uri, body=parts(), content_type=f"{MIXED}2")
            assert torn.status == 400
        assert calls.empty()
        await scene.settled(bob)
        await bob.close()

    scene.run(main)


@lossy
@pytest.mark.rfc("3261", "21.4.7")
def test_a_caller_that_reads_no_session_description_is_refused(loss: float) -> None:
    """Its Accept is the reason, and no reason where it names what we send (406, section 20.1)."""
    scene = Scene(loss)

    async def main() -> None:
        bob, calls = await scene.answering()
        async with Stranger(scene) as caller:
            uri = f"sip:bob@{SERVER}"
            refused = await caller.invite(
                uri, ("Accept", "text/plain, image/*"), body=SDP, content_type="application/sdp"
            )
            assert refused.status == 406
            assert calls.empty()
            answered = await caller.invite(
                uri, ("Accept", "text/plain, application/*;q=0.5"), body=SDP,
                content_type="application/sdp",
            )  # fmt: skip
            assert answered.status == 200
        await (await calls.get()).wait_ended()
        await scene.settled(bob)
        await bob.close()

    scene.run(main)


@lossy
def test_answers_with_parts_are_read_early_late_and_in_a_change(loss: float) -> None:
    scene = Scene(loss)

    async def main() -> None:
        async with Trunk(scene):
            bob, _ = await scene.answering(register=False)
            call = await bob.dial("sip:trunk@10.0.0.1:5070")
            assert call.codec == "pcma"
            await call.hold()
            assert call.state is CallState.HELD
            await call.hangup()
            await scene.settled(bob)
            await bob.close()

    scene.run(main)


@lossy
@pytest.mark.rfc("2045", "6")
def test_a_description_that_is_written_in_letters_is_read(loss: float) -> None:
    scene = Scene(loss)
    body = parts().replace(
        b"Content-Type: application/sdp\r\n\r\n" + SDP,
        b"Content-Type: application/sdp\r\nContent-Transfer-Encoding: base64\r\n\r\n"
        + encodebytes(SDP),
    )

    async def main() -> None:
        bob, calls = await scene.answering()
        async with Stranger(scene) as caller:
            answered = await caller.invite(f"sip:bob@{SERVER}", body=body, content_type=MIXED)
            assert answered.status == 200
            agreed = (await calls.get())._session.media.agreed
            assert agreed is not None
            assert agreed.remote_rtp == Address("10.0.0.1", 41000)
        await scene.settled(bob)
        await bob.close()

    scene.run(main)


MAIL = (
    b"--unique-boundary-1\r\nContent-Type: text/plain; charset=utf-8\r\n"
    b"Content-Transfer-Encoding: quoted-printable\r\n\r\nWatson, come here. =E2=98=8E\r\n"
    b"--unique-boundary-1\r\nContent-Type: image/gif\r\n"
    b"Content-Disposition: icon;handling=%b\r\n\r\nGIF\r\n"
    b"--unique-boundary-1--\r\n"
)


@lossy
@pytest.mark.rfc("3428", "7")
def test_a_text_among_parts_is_taken_and_what_has_to_be_understood_refused(loss: float) -> None:
    scene = Scene(loss)

    async def main() -> None:
        bob, _ = await scene.answering()
        heard: list[MessageReceived] = []
        bob.on_message(heard.append)
        async with Stranger(scene) as sender:
            uri = f"sip:bob@{SERVER}"
            assert (await sender.message(uri, MAIL % b"optional", MIXED)).status == 200
            refused = await sender.message(uri, MAIL % b"required", MIXED)
            assert refused.status == 415
            assert {"text/plain", "multipart/mixed"} <= set(refused.headers.values("Accept"))
            assert (await sender.message(uri, b"no parts", MIXED)).status == 400
        assert [(one.text, one.content_type) for one in heard] == [
            ("Watson, come here. \u260e", "text/plain")
        ]
        await scene.settled(bob)
        await bob.close()

    scene.run(main)


class Acknowledger(Stranger):
    """Acknowledges a reliable response by what nobody reads, then by nothing."""

    def __init__(self, scene: Scene) -> None:
        super().__init__(scene)
        self.answers: list[Response] = []
        self._early: Dialog | None = None

    def _on_event(self, event: SipEvent) -> None:
        now = self._endpoint.now()
        match event:
            case Provisional(prack_owed=True, dialog=Dialog() as dialog) if not self._early:
                self._early = dialog
                self._agent.prack(
                    dialog, body=b"\x01\x00", content_type="application/isup", now=now
                )
            case RequestDone(response=response) if self._early is not None:
                self.answers.append(response)
                if len(self.answers) == 1:
                    self._agent.prack(self._early, now=now)
            case _:
                super()._on_event(event)
        self._endpoint.flush()

    async def call(self, uri: str) -> Response:
        """Call; return the final answer."""
        await self.begin(uri, body=SDP, content_type="application/sdp", prack_by_hand=True)
        return await self._outcome()


@lossy
@pytest.mark.rfc("3262", "3-5")
def test_a_prack_that_nobody_reads_is_refused_and_the_call_goes_on(loss: float) -> None:
    scene = Scene(loss)

    async def taken(call: Call) -> None:
        await call.progress()
        await call.answer()  # waits for the PRACK that is taken
        await call.wait_ended()

    async def main() -> None:
        bob = await scene.taking("bob", taken)
        async with Acknowledger(scene) as caller:
            assert (await caller.call(f"sip:bob@{SERVER}")).status == 200
            refused, acknowledged = caller.answers
            assert (refused.status, acknowledged.status) == (415, 200)
            assert "application/sdp" in refused.headers.values("Accept")
        await scene.settled(bob)
        await bob.close()

    scene.run(main)
