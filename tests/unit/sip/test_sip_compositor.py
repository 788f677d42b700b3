"""States published at our proxy: every answer of RFC 3903 section 6, and the limits."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from virtual_sip import Net, Phone, Proxy, assert_nothing_left

from voip.errors import SipError
from voip.sip.authenticator import Authenticator
from voip.sip.compositor import CompositorConfig
from voip.sip.config import AgentConfig
from voip.sip.digest import Credentials
from voip.sip.digest_server import DigestServer
from voip.sip.event_server import EventConfig, EventServer
from voip.sip.events import Notified, RequestDone, RequestFailed
from voip.sip.location import Location
from voip.sip.message import Response
from voip.sip.packages.presence import CONTENT_TYPE, Presence, PresenceTuple, compose
from voip.sip.packages.xml import parse_xml
from voip.sip.proxy import ProxyConfig
from voip.sip.proxy_policy import LocationPolicy
from voip.sip.subscription import Subscription
from voip.types import SeededRandom

pytestmark = pytest.mark.rfc("3903", "6")

USERS = {"alice": "wonderland", "bob": "builder"}
HOME = "192.0.2.11"
LIMITS = CompositorConfig(max_of_user=3, max_documents=4)
PIDF = "urn:ietf:params:xml:ns:pidf"


def pidf(note: str = "here", name: str = "t1") -> bytes:
    return Presence(f"sip:alice@{HOME}", (PresenceTuple(name, True, note=note),)).to_bytes()


class Home:
    """A proxy that serves events, and one phone of each user."""

    def __init__(self, config: EventConfig | None = None) -> None:
        self.net = Net()
        digest = DigestServer("voip", USERS, SeededRandom(3))
        location = Location()
        policy = LocationPolicy(USERS, location, Authenticator(digest, proxy=True))
        served = config or EventConfig(publications=LIMITS)
        self.proxy: Proxy = self.net.proxy(HOME, policy, ProxyConfig(events=served.packages))
        self.events = policy.events = EventServer(self.proxy.agent.core, location, served)
        self.proxy.agent.ended = self.events.ended
        agent = AgentConfig(allow=(*AgentConfig().allow, "NOTIFY"))
        self.phones = {
            name: self.net.phone(f"192.0.2.{number}", agent) for number, name in enumerate(USERS, 1)
        }

    def publish(
        self,
        body: bytes = b"",
        *,
        by: str = "alice",
        of: str | None = None,
        event: str | None = "presence",
        expires: int | None = None,
        match: str | tuple[str, ...] = (),
        content_type: str = CONTENT_TYPE,
    ) -> Response:
        phone = self.phones[by]
        etags = (match,) if isinstance(match, str) else match
        headers = [("SIP-If-Match", etag) for etag in etags]
        headers += [] if event is None else [("Event", event)]
        headers += [] if expires is None else [("Expires", str(expires))]
        aor = f"<sip:{by}@{HOME}>"
        phone.seen.clear()
        phone.agent.request(
            "PUBLISH",
            f"sip:{of or by}@{HOME}",
            flow=phone.to(self.proxy),  # type: ignore[arg-type]
            from_=aor,
            to=aor,
            headers=headers,
            body=body,
            content_type=content_type if body else None,
            credentials=Credentials(by, USERS[by]),
            now=self.net.now,
        )
        self.net.run(2)
        (done,) = [one for one in phone.seen if isinstance(one, RequestDone | RequestFailed)]
        assert done.response is not None
        return done.response

    def watch(self, phone: Phone, expires: int = 3600) -> Subscription:
        subscription = phone.agent.subscriptions.subscribe(
            f"sip:alice@{HOME}",
            "presence",
            flow=phone.to(self.proxy),  # type: ignore[arg-type]
            from_=f"<sip:bob@{HOME}>",
            to=f"<sip:alice@{HOME}>",
            contact=phone.contact,
            accept=[CONTENT_TYPE],
            expires_s=expires,
            credentials=Credentials("bob", USERS["bob"]),
            now=self.net.now,
        )
        self.net.run(2)
        return subscription


@pytest.fixture
def home() -> Iterator[Home]:
    home = Home()
    yield home
    home.net.run(7200)  # what was published has expired by then
    assert home.events.publications == home.events.watchers == 0
    assert_nothing_left(home.net)


def etag(response: Response) -> str:
    assert response.status == 200, response.summary()
    return response.headers.get("SIP-ETag") or ""


def test_F105_every_publish_that_is_taken_gives_another_name(home: Home) -> None:
    first = home.publish(pidf())
    assert first.headers.get("Expires") == "3600"
    second = home.publish(match=etag(first), expires=600)
    assert second.headers.get("Expires") == "600"
    third = home.publish(pidf("out"), match=etag(second))
    last = home.publish(match=etag(third), expires=0)
    names = {etag(one) for one in (first, second, third, last)}
    assert len(names) == 4
    assert last.headers.get("Expires") == "0"
    assert home.events.publications == 0


def test_F105_what_is_not_there_is_412_and_changes_nothing(home: Home) -> None:
    name = etag(home.publish(pidf()))
    assert home.publish(pidf("x"), match="unknown").status == 412
    later = etag(home.publish(match=name))
    assert home.publish(match=name).status == 412  # the name of before
    assert home.publish(match=later, by="bob").status == 412  # somebody else's
    assert home.events.publications == 1


def test_F105_it_is_gone_when_its_time_is_over(home: Home) -> None:
    name = etag(home.publish(pidf(), expires=60))
    home.net.run(61)
    assert home.publish(match=name).status == 412
    assert home.events.publications == 0


@pytest.mark.parametrize(
    ("asked", "status", "header"),
    [
        ({"expires": 59}, 423, ("Min-Expires", "60")),
        ({"event": "dialog"}, 480, None),  # goes to her phone, which is not there
        ({"content_type": "text/plain"}, 415, ("Accept", CONTENT_TYPE)),
        ({"body": b""}, 400, None),
        ({"body": b"<presence>"}, 400, None),
        ({"body": b'<!DOCTYPE x [<!ENTITY a "b">]><presence/>'}, 400, None),
        ({"body": pidf("x" * 5000)}, 413, None),
        ({"match": ("a", "b")}, 400, None),
        ({"event": None}, 489, None),
        ({"event": "reg"}, 489, ("Allow-Events", "presence")),
        ({"of": "bob"}, 403, None),
    ],
)
def test_F105_what_is_wrong_is_refused_and_changes_nothing(
    home: Home, asked: dict[str, object], status: int, header: tuple[str, str] | None
) -> None:
    response = home.publish(**{"body": pidf(), **asked})  # type: ignore[arg-type]
    assert response.status == status
    if header is not None:
        assert response.headers.get(header[0]) == header[1]
    assert home.events.publications == 0


def test_F105_there_is_room_for_so_many(home: Home) -> None:
    """Three of one user, four in all; what is there can be refreshed all the same."""
    names = [etag(home.publish(pidf(f"place {n}"))) for n in range(3)]
    refused = home.publish(pidf())
    assert (refused.status, refused.headers.get("Retry-After")) == (503, "60")
    etag(home.publish(pidf(), by="bob"))
    assert home.publish(pidf(), by="bob").status == 503
    etag(home.publish(match=names[0]))
    etag(home.publish(expires=0, match=names[1]))
    etag(home.publish(pidf(), by="bob"))
    assert home.events.publications == 4


@pytest.mark.rfc("3856", "6")
def test_F103_a_watcher_is_told_of_changes_and_not_of_refreshes(home: Home) -> None:
    bob = home.phones["bob"]
    watch = home.watch(bob)
    name = etag(home.publish(pidf("one")))
    name = etag(home.publish(match=name))
    name = etag(home.publish(pidf("two"), match=name))
    etag(home.publish(expires=0, match=name))
    told = [Presence.parse(one.request.body).tuples[0] for one in bob.events(Notified)]
    assert [(one.open, one.note) for one in told] == [
        (False, None),
        (True, "one"),
        (True, "two"),
        (False, None),
    ]
    watch.unsubscribe(home.net.now)
    home.net.run(1)
    assert home.events.watchers == 0


@pytest.mark.rfc("3856", "6")
def test_F103_one_user_may_watch_so_much(home: Home) -> None:
    home.events.config = EventConfig(max_of_watcher=2)
    bob = home.phones["bob"]
    watches = [home.watch(bob) for _ in range(4)]
    assert home.events.watchers == 2
    assert [one.status.value for one in watches] == ["active"] * 2 + ["terminated"] * 2
    for watch in watches[:2]:
        watch.unsubscribe(home.net.now)
    home.net.run(1)
    bob.seen.clear()
    home.watch(bob, expires=0)
    assert home.events.watchers == 0  # told once, and over
    assert bob.only(Notified).request.body


@pytest.mark.rfc("3856", "6")
@pytest.mark.parametrize(
    ("uri", "accept", "status"),
    [
        (f"sip:alice@{HOME}", "text/plain", 406),
        (f"sip:alice@{HOME}", '"never ends', 406),
        (f"sip:{HOME}", CONTENT_TYPE, 404),
        (f"sip:nobody@{HOME}", CONTENT_TYPE, 404),
    ],
)
def test_F103_who_cannot_be_told_is_told_so(home: Home, uri: str, accept: str, status: int) -> None:
    bob = home.phones["bob"]
    bob.agent.request(
        "SUBSCRIBE",
        uri,
        flow=bob.to(home.proxy),  # type: ignore[arg-type]
        from_=f"<sip:bob@{HOME}>",
        to=f"<{uri}>",
        headers=[("Event", "presence"), ("Accept", accept), ("Contact", bob.contact)],
        credentials=Credentials("bob", USERS["bob"]),
        now=home.net.now,
    )
    home.net.run(2)
    (done,) = [one for one in bob.seen if isinstance(one, RequestDone | RequestFailed)]
    assert done.response is not None
    assert done.response.status == status
    assert home.events.watchers == 0


@pytest.mark.rfc("3856", "6.7")
def test_F103_documents_are_put_together_with_what_nobody_here_knows() -> None:
    rpid = (
        (
            f'<p xmlns="{PIDF}" xmlns:r="urn:ietf:params:xml:ns:pidf:rpid" entity="sip:a@b">'
            '<tuple id="x"><status><basic>open</basic></status><r:idle/><note>n</note></tuple>'
            '<note>all</note><r:person id="x"><r:activities><r:away/></r:activities></r:person></p>'
        )
        .replace("<p ", "<presence ")
        .replace("</p>", "</presence>")
    )
    body = compose("sip:alice@here.example", [rpid.encode(), rpid.encode(), pidf()])
    root = parse_xml(body, f"{{{PIDF}}}presence")
    kinds = [element.tag.rpartition("}")[2] for element in root]
    assert kinds == ["tuple"] * 3 + ["note"] * 2 + ["person"] * 2
    ids = [element.get("id") for element in root if element.get("id")]
    assert len(set(ids)) == len(ids) == 5
    assert body.count(b"idle") == body.count(b"away") == 2
    assert root.get("entity") == "sip:alice@here.example"
    assert b"<basic>open</basic>" in body  # some look for it without reading XML


@given(st.lists(st.binary(max_size=60), max_size=3))
def test_F103_what_is_no_document_is_told_by_an_error_alone(bodies: list[bytes]) -> None:
    try:
        compose("sip:a@b", bodies)
    except SipError as error:
        assert error.status == 400
