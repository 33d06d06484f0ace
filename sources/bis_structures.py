"""What the codes of a BIS data set mean: its structure and code lists, as SDMX-ML 2.1.

- One answer holds the data set, its structure and every code list that a dimension or attribute uses.
- The answer is XML whatever the data API gives; `Accept` names the version, newer ones have other elements.
- Code lists are changed in place: a label that changed is a new row, known since it was received.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

import polars as pl

from lakehouse.bronze import Page
from lakehouse.contract import UTC_US
from lakehouse.silver import codes
from lakehouse.window import Window
from sources.bis_csv import broken
from sources.bis_flows import FLOWS, Subject, read_flow
from sources.bis_sdmx import HOST, PROVIDER
from sources.client import Answer, Client
from sources.errors import Transient
from sources.feed import Feed
from sources.proofs import snapshot

ACCEPT = "application/vnd.sdmx.structure+xml;version=2.1"
PARAMS = {"references": "descendants", "detail": "full"}

_LANGUAGE = "{http://www.w3.org/XML/1998/namespace}lang"
_ROW = pl.Schema(
    {
        "data_set": pl.String(),
        "component": pl.String(),
        "code": pl.String(),
        "label": pl.String(),
        "code_list": pl.String(),
        "parent": pl.String(),
        "position": pl.Int64(),
        "page_id": pl.Int64(),
        "received_at": UTC_US,
    }
)


def structure_path(asked: Subject) -> str:
    """Where the API gives the structure of a data set, with PARAMS."""
    return f"/api/v2/structure/dataflow/BIS/{asked.flow}/{asked.version}"


def fetch(client: Client, subject: str, _window: Window) -> Iterator[Page]:
    """One page: the structure as it is now, whatever the window."""
    asked = read_flow(subject)

    def page(answer: Answer) -> Page:
        return answer.page(feed="bis_structures", subject=subject, window=None, sequence=0)

    headers = {"Accept": ACCEPT}
    yield page(
        client.get(HOST, structure_path(asked), PARAMS, headers=headers, explain=_must_be_xml, keep=page)
    )


def parse(pages: pl.DataFrame) -> pl.LazyFrame:
    """Rows of silver.codes: each code of each dimension and attribute that has a code list.

    Raises ParseError for a page that is not the structure of its data set, or lacks a code list that it names.
    """
    entries = [entry for page in pages.iter_rows(named=True) for entry in _codes(page)]
    return pl.LazyFrame(entries, schema=_ROW).select(
        "data_set",
        "component",
        "code",
        event_at="received_at",
        known_at="received_at",
        ingested_at="received_at",
        page_id="page_id",
        provider=pl.lit(PROVIDER),
        label="label",
        code_list="code_list",
        parent="parent",
        position="position",
    )


def _about(subject: str) -> list[dict[str, str]]:
    return [{"provider": PROVIDER, "data_set": subject}]


FEEDS = (
    Feed(
        name="bis_structures",
        provider=PROVIDER,
        doc="Dimensions, attributes and code lists of a BIS data set.",
        table=codes.TABLE,
        subjects=f"a data set: {', '.join(FLOWS)}",
        fetch=fetch,
        parse=parse,
        proof=snapshot,
        about=_about,
        cost=lambda _subject, _window: 1,
        paging="one answer",
        quota=lambda settings, _subject: HOST.quota(settings),
        documentation="https://stats.bis.org/api-doc/v2/",
    ),
)


def _must_be_xml(answer: Answer) -> None:
    if b"Structure" not in answer.body[:1000] or not answer.body.rstrip().endswith(b">"):
        raise Transient(f"bis answered {answer.url} with no SDMX-ML structure")


def _codes(page: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    root = _root(page)
    lists = {_full_id(one): one for one in root.iterfind(".//{*}Codelist")}
    components = list(_components(page, root))
    if not components:
        raise broken(page, "names no code list")
    for component, position, code_list in components:
        if code_list not in lists:
            raise broken(page, f"names the code list {code_list} for {component} and does not hold it")
        for code in lists[code_list].iterfind("{*}Code"):
            yield {
                "data_set": page["subject"],
                "component": component,
                "code": code.get("id"),
                "label": _english(code),
                "code_list": code_list,
                "parent": _reference(code.find("{*}Parent/{*}Ref")),
                "position": position,
                "page_id": page["page_id"],
                "received_at": page["received_at"],
            }


def _root(page: Mapping[str, Any]) -> Element:
    body: bytes = page["body"]
    if b"<!DOCTYPE" in body:
        raise broken(page, "declares a document type, which SDMX-ML never does")
    try:
        return ElementTree.fromstring(body)  # noqa: S314 - without a document type there are no entities to blow up
    except ElementTree.ParseError as error:
        raise broken(page, f"is not XML ({error})") from None


def _components(page: Mapping[str, Any], root: Element) -> Iterator[tuple[str, int | None, str]]:
    """Dimensions and attributes of the page's data set that have a code list: id, place in the key, code list."""
    flow = next((one for one in root.iterfind(".//{*}Dataflow") if one.get("id") == page["subject"]), None)
    named = None if flow is None else flow.find("{*}Structure/{*}Ref")
    structures = {_full_id(one): one for one in root.iterfind(".//{*}DataStructure")}
    structure = None if named is None else structures.get(_full_id(named))
    if structure is None:
        raise broken(page, f"does not hold the structure of {page['subject']}")
    for kind in ("Dimension", "Attribute"):
        for component in structure.iterfind(f".//{{*}}{kind}"):
            listed = component.find("{*}LocalRepresentation/{*}Enumeration/{*}Ref")
            if listed is not None:
                position = component.get("position", "") if kind == "Dimension" else ""
                place = int(position) if position.isdigit() else None
                yield str(component.get("id")), place, _full_id(listed)


def _full_id(element: Element) -> str:
    return f"{element.get('agencyID')}:{element.get('id')}({element.get('version')})"


def _reference(element: Element | None) -> str | None:
    return None if element is None else element.get("id")


def _english(code: Element) -> str | None:
    names = {name.get(_LANGUAGE, "en"): name.text for name in code.iterfind("{*}Name")}
    return names.get("en") or next(iter(names.values()), None)
