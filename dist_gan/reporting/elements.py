"""HTML from values: everything that is not an element already is escaped."""

import html
import json
from collections.abc import Iterable, Mapping
from typing import Any

VOID = {"img", "input", "br", "wbr"}
"""Elements without an end."""


class Element(str):
    """HTML that is finished: it is not escaped again."""

    __slots__ = ()


def text(value: object) -> Element:
    """As text within HTML, also within the value of an attribute."""
    return value if isinstance(value, Element) else Element(html.escape(str(value)))


def element(tag: str, *children: object, **attributes: object) -> Element:
    """`<tag attributes>children</tag>`.

    Args:
        tag: a name of HTML.
        children: elements, and anything else as text.
        attributes: `class_` is class, `data_run` is data-run; True has no value, and None and False are left out.
    """
    given = "".join(
        _attribute(name, value) for name, value in attributes.items() if value is not None and value is not False
    )
    begin = Element(f"<{tag}{given}>")
    return begin if tag in VOID else Element(f"{begin}{together(children)}</{tag}>")


def together(children: Iterable[object]) -> Element:
    """One after the other."""
    return Element("".join(map(text, children)))


def script_data(name: str, value: Any) -> Element:
    """JSON for the page's script, which finds it by the id `name`."""
    written = json.dumps(value, separators=(",", ":"), allow_nan=False)
    safe = written.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
    return Element(f'<script type="application/json" id="{text(name)}">{safe}</script>')


def table(head: Iterable[object], rows: Iterable[Iterable[object]], **attributes: object) -> Element:
    """The first cell of each row is its head. It scrolls in itself where it is too wide."""
    first = element("tr", *(element("th", cell, scope="col") for cell in head))
    body = [
        element("tr", *(element("td" if i else "th", cell, scope=None if i else "row") for i, cell in enumerate(row)))
        for row in rows
    ]
    inner = element("table", element("thead", first), element("tbody", *body), **attributes)
    return element("div", inner, class_="scrolls", tabindex=0)


def facts(pairs: Mapping[str, object]) -> Element:
    """A list of names and values; what is empty is left out."""
    shown = {name: value for name, value in pairs.items() if value not in ("", None)}
    rows = [element("div", element("dt", name), element("dd", value)) for name, value in shown.items()]
    return element("dl", *rows, class_="facts")


def _attribute(name: str, value: object) -> str:
    written = name.rstrip("_").replace("_", "-")
    return f" {written}" if value is True else f' {written}="{text(value)}"'
