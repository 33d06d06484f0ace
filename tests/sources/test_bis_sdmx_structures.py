"""Structures and code lists of the BIS, as they were served."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest
import stamina

from lakehouse.bronze import Page, pages_frame
from lakehouse.conform import conform
from lakehouse.errors import UsageError
from lakehouse.settings import Settings
from lakehouse.window import Window
from sources.bis_structures import FEEDS
from sources.client import Client
from sources.errors import ParseError, Permanent, Transient
from sources.twin.recording import Recording
from sources.twin.server import Twin, serving

RECORDED = Path(__file__).parents[2] / "../shared/recorded/bis/sdmxthon/metadata.xml.gz"
(FEED,) = FEEDS
RECEIVED = datetime(2026, 10, 9, 12, tzinfo=UTC)
WINDOW = Window(datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 10, 9, tzinfo=UTC))
URL = "https://stats.bis.org/api/v2/structure/dataflow/BIS/WS_GLI/1.0?references=descendants&detail=full"

needs_recorded = pytest.mark.skipif(
    not RECORDED.exists(), reason="needs ../shared/recorded/bis/sdmxthon/metadata.xml.gz"
)

SMALL = """\
<?xml version="1.0" encoding="UTF-8"?>
<mes:Structure xmlns:mes="http://www.sdmx.org/resources/sdmxml/schemas/v2_1/message"
    xmlns:str="http://www.sdmx.org/resources/sdmxml/schemas/v2_1/structure"
    xmlns:com="http://www.sdmx.org/resources/sdmxml/schemas/v2_1/common">
  <mes:Structures>
    <str:Dataflows>
      <str:Dataflow agencyID="BIS" id="WS_GLI" version="1.0">
        <str:Structure><Ref agencyID="BIS" id="BIS_GLI" version="1.0" class="DataStructure"/></str:Structure>
      </str:Dataflow>
    </str:Dataflows>
    <str:Codelists>
      <str:Codelist agencyID="BIS" id="CL_AREA" version="1.0">
        <str:Code id="3P"><com:Name xml:lang="en">Non-residents</com:Name></str:Code>
        <str:Code id="4T">
          <com:Name xml:lang="fr">\u00c9mergents</com:Name><com:Name xml:lang="en">Emerging markets</com:Name>
          <str:Parent><Ref id="3P"/></str:Parent>
        </str:Code>
      </str:Codelist>
      <str:Codelist agencyID="BIS" id="CL_OBS_STATUS" version="1.0">
        <str:Code id="B"><com:Name xml:lang="en">Break</com:Name></str:Code>
      </str:Codelist>
    </str:Codelists>
    <str:DataStructures>
      <str:DataStructure agencyID="BIS" id="BIS_GLI" version="1.0">
        <str:DataStructureComponents>
          <str:DimensionList>
            <str:Dimension id="BORROWERS_CTY" position="3"><str:LocalRepresentation><str:Enumeration>
              <Ref agencyID="BIS" id="CL_AREA" version="1.0"/>
            </str:Enumeration></str:LocalRepresentation></str:Dimension>
            <str:TimeDimension id="TIME_PERIOD" position="9"/>
          </str:DimensionList>
          <str:AttributeList>
            <str:Attribute id="TITLE"/>
            <str:Attribute id="OBS_STATUS"><str:LocalRepresentation><str:Enumeration>
              <Ref agencyID="BIS" id="CL_OBS_STATUS" version="1.0"/>
            </str:Enumeration></str:LocalRepresentation></str:Attribute>
          </str:AttributeList>
        </str:DataStructureComponents>
      </str:DataStructure>
    </str:DataStructures>
  </mes:Structures>
</mes:Structure>
""".encode()


def page(body: bytes, subject: str = "WS_GLI") -> Page:
    return Page(feed=FEED.name, subject=subject, request={}, received_at=RECEIVED, body=body)


def parsed(*pages: Page) -> pl.DataFrame:
    return FEED.parse(pages_frame(pages, run_id="r", code_version="v")).collect()


@contextmanager
def client_of(body: bytes, status: int = 200) -> Iterator[Client]:
    recording = Recording(url=URL, body=body, status=status)
    with (
        stamina.set_testing(True, attempts=2, cap=True),
        serving(Twin([recording])) as url,
        Client(Settings(_env_file=None, twin_url=url)) as client,
    ):
        yield client


def test_each_code_of_each_component_is_a_row_with_its_label_parent_and_place():
    """Hand-made after SDMX-ML 2.1: the recorded code lists name no parents."""
    with client_of(SMALL) as client:
        (said,) = FEED.fetch(client, "WS_GLI", WINDOW)
    rows = parsed(said)
    shown = ["data_set", "component", "position", "code_list", "code", "label", "parent"]
    assert rows.select(shown).rows() == [
        ("WS_GLI", "BORROWERS_CTY", 3, "BIS:CL_AREA(1.0)", "3P", "Non-residents", None),
        ("WS_GLI", "BORROWERS_CTY", 3, "BIS:CL_AREA(1.0)", "4T", "Emerging markets", "3P"),
        ("WS_GLI", "OBS_STATUS", None, "BIS:CL_OBS_STATUS(1.0)", "B", "Break", None),
    ]
    assert set(rows["known_at"]) == {said.received_at}
    assert conform(FEED.table, rows.lazy()).collect()["reasons"].list.len().sum() == 0


@needs_recorded
@pytest.mark.parametrize(
    ("data_set", "dimensions", "rows"),
    [
        ("WEBSTATS_DER_DATAFLOW", 14, 3101),
        ("WEBSTATS_LBS_D_PUB_DATAFLOW", 12, 1728),
        ("WEBSTATS_XRU_CURRENT_D_DATAFLOW", 4, 680),
    ],
)
def test_recorded_structures_are_read_whole(data_set, dimensions, rows):
    found = parsed(page(gzip.decompress(RECORDED.read_bytes()), data_set))
    places = found.drop_nulls("position").select("component", "position").unique().sort("position")
    assert places["position"].to_list() == list(range(1, dimensions + 1))
    assert found.select(FEED.table.key).n_unique() == found.height
    assert conform(FEED.table, found.lazy()).collect()["reasons"].list.len().sum() == 0
    missing = found.filter(pl.col("label").str.starts_with("Missing value"), component="OBS_STATUS")
    assert sorted(missing["code"]) == ["H", "L", "M", "Q"]
    assert found.height == rows


@needs_recorded
def test_the_codes_of_recorded_data_are_in_the_recorded_code_lists():
    """1,000 recorded observations of BIS_DER against the structure recorded with them."""
    data = pl.read_csv(RECORDED.parent / "data_v1.csv", infer_schema=False)
    found = parsed(page(gzip.decompress(RECORDED.read_bytes()), "WEBSTATS_DER_DATAFLOW"))
    components = found.drop_nulls("position")["component"].unique().to_list()
    for component in [*components, "OBS_STATUS", "AVAILABILITY", "COLLECTION", "OBS_CONF"]:
        codes = set(found.filter(component=component)["code"])
        assert set(data[component].drop_nulls()) <= codes, component


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"<html>Sorry", "is not XML"),
        (b"<html>Sorry</html>", "does not hold the structure of WS_GLI"),
        (SMALL[:-40], "is not XML"),
        (SMALL.replace(b'id="WS_GLI"', b'id="WS_TC"'), "does not hold the structure of WS_GLI"),
        (
            SMALL.replace(b'id="BIS_GLI" version="1.0">', b'id="BIS_XX" version="1.0">'),
            "does not hold the structure",
        ),
        (
            SMALL.replace(
                b'<str:Codelist agencyID="BIS" id="CL_AREA"', b'<str:Codelist agencyID="BIS" id="CL_NEW"'
            ),
            r"names the code list BIS:CL_AREA\(1\.0\) for BORROWERS_CTY and does not hold it",
        ),
        (b'<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b "b">]><a>&b;</a>', "declares a document type"),
        (b'{"data": {"codelists": []}}', "is not XML"),
    ],
)
def test_what_is_not_the_structure_asked_for_is_refused(body, reason):
    bad = page(body)
    with pytest.raises(ParseError, match=rf"bis bis_structures WS_GLI: page {bad.page_id} {reason}"):
        parsed(bad)


@pytest.mark.parametrize("body", [b"<html>Sorry</html>", b'{"data": {}}', b"", SMALL[:-40]])
def test_what_comes_with_status_200_in_place_of_a_structure_may_pass(body):
    with client_of(body) as client, pytest.raises(Transient, match="no SDMX-ML structure") as raised:
        list(FEED.fetch(client, "WS_GLI", WINDOW))
    assert [kept.body for kept in raised.value.pages] == [body]


def test_an_unknown_data_set_is_refused_for_good():
    with client_of(b"", 404) as client, pytest.raises(Permanent, match="404"):
        list(FEED.fetch(client, "WS_GLI", WINDOW))
    with client_of(b"") as client, pytest.raises(UsageError, match="not a data set like WS_GLI"):
        list(FEED.fetch(client, "WS_GLI/Q.USD", WINDOW))


def test_no_pages_give_no_rows_that_still_fit_the_table():
    assert conform(FEED.table, parsed().lazy()).collect().is_empty()
