"""What a phone's parts do can be seen on `Softphone` itself: by `help`, and by editors."""

from __future__ import annotations

import inspect
import pydoc

import pytest

from voip import Softphone
from voip.desk import WatchRequest
from voip.messages import Messages
from voip.watching import Watching

OF_PARTS = [
    *("on_incoming", "on_transfer", "on_watch", "on_message", "pick_up", "park", "refer"),
    *("dial_when_free", "watch", "message", "options", "publish", "on_moderation"),
]


def test_help_lists_every_method_with_its_words() -> None:
    page = pydoc.plain(pydoc.render_doc(Softphone))
    methods = page[page.index("Methods defined here") :]
    for name in [*OF_PARTS, "dial", "register", "registration", "events"]:
        assert f" {name}(" in methods or f" {name} = " in methods, name
    for words in ("Take a call that rings", "Be told of an event", "Publish a state of ours"):
        assert words in methods, words


@pytest.mark.parametrize("name", OF_PARTS)
def test_a_method_has_the_signature_and_the_documentation_of_the_part_s(name: str) -> None:
    phone = Softphone()
    of_class, bound = getattr(Softphone, name), getattr(phone, name)
    assert of_class.__doc__ and bound.__doc__ == of_class.__doc__
    (_, *given) = inspect.signature(of_class).parameters.values()
    assert list(inspect.signature(bound).parameters.values()) == given
    assert inspect.iscoroutinefunction(bound) == (not name.startswith("on_"))


def test_each_phone_has_parts_of_its_own() -> None:
    one, other = Softphone(), Softphone()

    @one.on_watch
    def allowed(request: WatchRequest) -> bool:
        return True

    assert one.watch == one.watch
    assert one.watch != other.watch
    assert (one._desk.handlers.watch, other._desk.handlers.watch) == (allowed, None)
    assert Softphone.watch is Watching.watch
    assert Softphone.message is Messages.send
