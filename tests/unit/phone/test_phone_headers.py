"""Headers of the application's own, both ways, and who the other side is said to be."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from voip.account import Account
from voip.call import Call
from voip.config import NetworkConfig
from voip.errors import CallError, ConfigError
from voip.phone import Softphone
from voip.sip.call_info import Geolocation
from voip.sip.reason import Reason
from voip.sip.retargeting import diversions, history, retargeted
from voip.sip.stir import Signer, Verifier

HERE = NetworkConfig(bind_host="127.0.0.1")


class Pair:
    """Alice, who calls, and Bob, whose calls wait in a queue."""

    def __init__(self, alice: Softphone, bob: Softphone) -> None:
        self.alice, self.bob = alice, bob
        self.calls: asyncio.Queue[Call] = asyncio.Queue()
        self.done = asyncio.Event()
        bob.on_incoming(self._take)

    async def _take(self, call: Call) -> None:
        await self.calls.put(call)
        await self.done.wait()

    @property
    def bobs(self) -> str:
        return f"sip:bob@127.0.0.1:{self.bob.port}"

    async def ringing(self, **settings: object) -> tuple[Call, Call]:
        mine = await self.alice.dial(self.bobs, wait="started", **settings)  # type: ignore[arg-type]
        return mine, await self.calls.get()


@pytest.fixture
async def pair() -> AsyncIterator[Pair]:
    async with AsyncExitStack() as stack:
        alice = Softphone("sip:alice@wonderland.example", register=False, network=HERE)
        trusting = NetworkConfig(bind_host="127.0.0.1", trusted=("127.0.0.1",))
        bob = Softphone(network=trusting)
        pair = Pair(await stack.enter_async_context(alice), await stack.enter_async_context(bob))
        yield pair
        pair.done.set()


async def test_headers_go_both_ways_with_everything_that_begins_and_ends_a_call(pair: Pair) -> None:
    more = [("X-Ticket", "1"), ("X-Ticket", "2")]
    mine, theirs = await pair.ringing(headers=more)
    assert theirs.headers.get_all("X-Ticket") == ["1", "2"]
    await theirs.ring({"X-Rings": "yes", "Alert-Info": "<http://x.example/soft>"})
    while "X-Rings" not in mine.headers:
        await asyncio.sleep(0)
    await theirs.answer({"X-Queue": "sales"})
    await mine.wait_answered(5)
    assert mine.headers.get("X-Queue") == mine.header("x-queue") == "sales"
    await mine.hangup({"Reason": 'Q.850;cause=16;text="Terminated"', "X-Mood": "good"})
    await theirs.wait_ended()
    assert theirs.end_headers.get("X-Mood") == "good"
    assert theirs.end_reasons == [Reason("Q.850", 16, "Terminated")]
    assert len(mine.end_headers) == 0


async def test_headers_go_with_a_refusal(pair: Pair) -> None:
    mine, theirs = await pair.ringing()
    await theirs.reject(603, headers={"Reason": "Q.850;cause=21"})
    with pytest.raises(CallError):
        await mine.wait_answered(5)
    assert mine.end_reasons == [Reason("Q.850", 21)]


async def test_headers_of_the_phones_own_cannot_be_set(pair: Pair) -> None:
    _, theirs = await pair.ringing()
    for bad in ({"Via": "x"}, {"Record-Route": "<sip:x>"}, {"X": "a\r\nVia: b"}, {"X Y": "z"}):
        with pytest.raises(ConfigError):
            await theirs.answer(bad)
    assert theirs.ended is None
    await theirs.reject()


async def test_F129_a_caller_may_stay_unknown_to_the_callee(pair: Pair) -> None:
    _, theirs = await pair.ringing(anonymous=True)
    assert theirs.remote == "sip:anonymous@anonymous.invalid"
    assert theirs.remote_name == "Anonymous"
    assert "alice" not in (theirs.headers.get("Contact") or "")
    identity = theirs.identity
    assert identity is not None
    assert identity.privacy.hides_identity
    assert identity.preferred == ()  # it is the callee's own host that the INVITE has gone to
    assert b"alice" not in theirs._session.invite_request.to_bytes()
    await theirs.reject()


@pytest.mark.parametrize(
    ("account", "target"),
    [
        ({"uri": "sip:alice@127.0.0.1:{port}"}, "bob"),
        (
            {"uri": "sip:alice@wonderland.example", "proxy": "sip:127.0.0.1:{port}"},
            "bob@far.example",
        ),
    ],
    ids=["own domain", "proxy"],
)
async def test_F129_our_own_servers_are_told_who_stays_unknown(
    pair: Pair, account: dict[str, str], target: str
) -> None:
    settings = {name: value.format(port=pair.bob.port) for name, value in account.items()}
    async with Softphone(register=False, network=HERE, **settings) as alice:
        call = await alice.dial(target, wait="started", anonymous=True)
        theirs = await pair.calls.get()
        identity = theirs.identity
        assert identity is not None
        assert [address.uri for address in identity.preferred] == [str(alice.account.aor)]
        await theirs.reject()
        await call.wait_ended()


@pytest.mark.parametrize("trusting", [True, False])
async def test_F129_who_calls_is_believed_of_those_who_are_trusted(
    pair: Pair, trusting: bool
) -> None:
    if not trusting:
        pair.bob._stack.trusted = ()
    _, theirs = await pair.ringing(headers={"P-Asserted-Identity": "<tel:+441632960123>"})
    identity = theirs.identity
    assert identity is not None
    assert identity.asserted[0].uri == "tel:+441632960123"
    assert identity.proven is trusting
    assert (identity.best.uri == "tel:+441632960123") is trusting
    await theirs.reject()


async def test_F130_F132_diversion_history_and_place_are_carried(pair: Pair) -> None:
    entries = retargeted(retargeted((), "sip:carol@x.example"), pair.bobs)
    place = Geolocation(("https://lis.example/alice",), routing=True)
    more = [("Diversion", "<sip:carol@x.example>;reason=no-answer"), *place.headers()]
    _, theirs = await pair.ringing(
        headers=[*more, *(("History-Info", str(entry)) for entry in entries)]
    )
    assert [entry.reason for entry in diversions(theirs.headers)] == ["no-answer"]
    assert history(theirs.headers) == entries
    assert Geolocation.of(theirs.headers) == place
    await theirs.reject()


def test_a_telephone_number_is_called_at_the_accounts_domain() -> None:
    account = Account("sip:alice@wonderland.example:5070")
    uri = account.dial_uri("tel:+44-1632-960123;ext=7")
    assert str(uri) == "sip:+441632960123;ext=7@wonderland.example:5070;user=phone"
    with pytest.raises(ConfigError, match="phone-context"):
        account.dial_uri("tel:600")


async def test_a_telephone_number_is_called_by_a_phone(pair: Pair) -> None:
    proxied = Softphone(
        "sip:alice@wonderland.example", register=False, network=HERE,
        proxy=f"sip:127.0.0.1:{pair.bob.port}",
    )  # fmt: skip
    async with proxied:
        await proxied.dial("tel:+44-1632-960123", wait="started", from_="tel:+1-201-555-0123")
        theirs = await pair.calls.get()
        assert theirs.dialled == "sip:+441632960123@wonderland.example;user=phone"
        assert theirs.headers.get("To") == f"<{theirs.dialled}>"
        assert theirs.remote == "tel:+1-201-555-0123"
        await theirs.reject()


async def test_a_phone_without_an_account_cannot_call_a_number() -> None:
    async with Softphone(network=HERE) as phone:
        with pytest.raises(ConfigError, match="no domain"):
            await phone.dial("tel:+441632960123")


async def test_F131_a_signed_call_is_judged_and_an_unsigned_one_refused(pair: Pair) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    signer = Signer(pem, "https://cert.example/1")
    name = x509.Name([x509.NameAttribute(x509.oid.NameOID.COMMON_NAME, "root")])
    now = datetime.now(UTC)
    root = (
        x509.CertificateBuilder(name, name, key.public_key(), 1, now, now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(True, None), critical=True)
        .sign(key, SHA256())
    )
    verifier = Verifier(root.public_bytes(Encoding.PEM), lambda url: None)
    identity = signer.identity("sip:alice@wonderland.example", pair.bobs, wall=time.time())
    for headers, status in (((), 428), ({"Identity": identity}, 436)):
        mine, theirs = await pair.ringing(headers=headers)
        judged = verifier.verify(theirs.headers, time.time())
        await theirs.reject(judged.status, judged.reason)
        with pytest.raises(CallError):
            await mine.wait_answered(5)
        assert mine.ended is not None
        assert mine.ended.status == status
