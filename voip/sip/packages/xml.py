"""XML from strangers: no document types, no entities, limited depth and size."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final
from xml.etree.ElementTree import Element, TreeBuilder, tostring
from xml.parsers import expat

from voip.errors import SipError

__all__ = ["Element", "attribute", "children", "number", "parse_xml", "text_of", "write_xml"]

MAX_DEPTH: Final = 32
MAX_ELEMENTS: Final = 4_096
MAX_ATTRIBUTES: Final = 64


def parse_xml(body: bytes, root: str) -> Element:
    """Read a document whose root is `{namespace}name`; SipError (400) for any other.

    A document type is refused as soon as it begins, so that no entity is ever declared. Names are
    `{namespace}name`, attributes without a namespace plain.
    """
    builder = TreeBuilder()
    depth = count = 0

    def start(name: str, attributes: dict[str, str]) -> None:
        nonlocal depth, count
        depth, count = depth + 1, count + 1
        if depth > MAX_DEPTH or count > MAX_ELEMENTS or len(attributes) > MAX_ATTRIBUTES:
            raise SipError("an XML document that is too deep or too long", status=400)
        builder.start(_name(name), {_name(key): value for key, value in attributes.items()})

    def end(name: str) -> None:
        nonlocal depth
        depth -= 1
        builder.end(_name(name))

    def refuse(*_: object) -> None:
        raise SipError("an XML document with a document type", status=400)

    parser = expat.ParserCreate(namespace_separator="}")
    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.CharacterDataHandler = builder.data
    parser.StartDoctypeDeclHandler = refuse
    parser.buffer_text = True
    try:
        parser.Parse(body, True)
    except (expat.ExpatError, ValueError, LookupError) as error:
        raise SipError(f"not an XML document: {error}", status=400) from None
    found = builder.close()
    if found.tag != root:
        raise SipError(f"an XML document of another kind: {found.tag[:80]}", status=400)
    return found


def _name(name: str) -> str:
    return f"{{{name}" if "}" in name else name


def write_xml(root: Element, namespace: str) -> bytes:
    """Write a document whose elements, named without one, are all of `namespace`."""
    root.set("xmlns", namespace)
    written: bytes = tostring(root, encoding="UTF-8", xml_declaration=True)
    return written


def children(parent: Element | None, name: str) -> Iterator[Element]:
    """Yield the children of a local name, in the parent's namespace."""
    if parent is not None:
        yield from parent.iterfind(f"{parent.tag.partition('}')[0]}}}{name}")


def text_of(parent: Element | None, name: str) -> str | None:
    """Return the text of the first child of that name, without blanks around it."""
    found = next(children(parent, name), None)
    return None if found is None else (found.text or "").strip()


def attribute(element: Element, name: str) -> str:
    """Return an attribute; SipError (400) where it is missing."""
    value = element.get(name)
    if value is None:
        raise SipError(f"{element.tag.partition('}')[2]} without {name}", status=400)
    return value


def number(text: str | None) -> int | None:
    """Read a count of at most 32 bits; None where there is none."""
    if text is None or not text.isascii() or not text.isdigit() or len(text) > 10:
        return None
    return min(int(text), 2**32 - 1)
