"""The spool: what it says is durable is there after a crash, once, in order; what is torn never was."""

import os
import shutil
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sources.spool import Pace, Reader, Spool, SpoolFailed, abandoned

SMALL = Pace(segment_bytes=1 << 10, linger_s=0)


def written(folder: Path, *records: bytes, memo: bytes = b"memo") -> None:
    spool = Spool(folder, pace=SMALL)
    spool.start(memo)
    for number, record in enumerate(records):
        spool.append(record)
        if number % 16 == 0:
            spool.sync()
    spool.close()


def everything(folder: Path) -> list[bytes]:
    spool = Spool(folder, pace=SMALL)
    reader = Reader(folder)
    found = reader.read(spool.durable, 1 << 30)
    reader.close()
    spool.close()
    return found


def numbered(start: int, end: int) -> list[bytes]:
    return [b"record %d of many" % number for number in range(start, end)]


def test_what_was_written_is_read_in_order_by_the_next_process_too(tmp_path):
    written(tmp_path / "s", *numbered(0, 100))
    written(tmp_path / "s", *numbered(100, 150))
    assert everything(tmp_path / "s") == numbered(0, 150)


def test_records_are_read_while_others_are_written(tmp_path):
    spool = Spool(tmp_path / "s", pace=SMALL)
    spool.start(b"memo")
    reader = Reader(tmp_path / "s")
    found = []
    for start in range(0, 300, 10):
        for record in numbered(start, start + 10):
            spool.append(record)
        spool.sync()
        found += [one for _ in range(10) for one in reader.read(spool.durable, 1)]
        spool.forget(reader.next_read)
    reader.close()
    spool.close()
    assert found == numbered(0, 300)


def test_a_record_larger_than_a_segment_is_kept(tmp_path):
    large = os.urandom(5000)
    written(tmp_path / "s", b"before", large, b"after")
    assert everything(tmp_path / "s") == [b"before", large, b"after"]


def test_forgotten_segments_are_gone_and_counting_goes_on(tmp_path):
    written(tmp_path / "s", *numbered(0, 100))
    spool = Spool(tmp_path / "s", pace=SMALL)
    spool.forget(100)
    assert spool.segments == 1
    spool.start(b"memo")
    assert spool.append(b"one more") == 100
    spool.close()


def test_a_reader_that_had_read_so_far_goes_on_there(tmp_path):
    written(tmp_path / "s", *numbered(0, 100))
    reader = Reader(tmp_path / "s")
    reader.go_to(60)
    assert reader.read(100, 1 << 30) == numbered(60, 100)
    reader.go_to(30)
    assert reader.read(90, 1 << 30) == numbered(30, 90)
    reader.close()


def test_a_spool_that_was_taken_away_meanwhile_is_named(tmp_path):
    written(tmp_path / "s", *numbered(0, 10))
    reader = Reader(tmp_path / "s")
    shutil.rmtree(tmp_path / "s")
    with pytest.raises(SpoolFailed, match=f"the spool {tmp_path / 's'} holds no record 0 any more"):
        reader.read(10, 1 << 30)


def test_the_memo_outlives_the_records_that_brought_it(tmp_path):
    spool = Spool(tmp_path / "s", pace=SMALL)
    spool.start(b"at first")
    spool.append(b"x", memo=b"later")
    for start in range(1, 100, 20):
        for record in numbered(start, start + 20):
            spool.append(record)
        spool.sync()
    spool.close()
    assert Spool(tmp_path / "s", pace=SMALL).found.memo == b"later"


def test_two_processes_cannot_hold_one_spool(tmp_path):
    held = Spool(tmp_path / "s", pace=SMALL)
    with pytest.raises(BlockingIOError):
        Spool(tmp_path / "s", pace=SMALL)
    assert list(abandoned(tmp_path, pace=SMALL)) == []
    held.close()
    (left,) = abandoned(tmp_path, pace=SMALL)
    left.close()


def test_a_spool_that_is_full_says_so(tmp_path):
    spool = Spool(tmp_path / "s", pace=Pace(segment_bytes=1 << 10, most_bytes=4 << 10, linger_s=0))
    spool.start(b"memo")
    assert not spool.is_full
    for start in range(0, 300, 30):
        for record in numbered(start, start + 30):
            spool.append(record)
        spool.sync()
    assert spool.is_full
    spool.forget(300)
    assert not spool.is_full
    spool.close()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25)
@given(records=st.integers(1, 60), cut=st.floats(0, 1), change=st.booleans())
def test_a_torn_end_loses_the_last_records_whole_and_nothing_else(tmp_path_factory, records, cut, change):
    folder = tmp_path_factory.mktemp("spool") / "s"
    written(folder, *numbered(0, records))
    last = max(folder.glob("*.segment"))
    whole = last.read_bytes()
    begin = 12  # the memo stays: it was synced before the segment was used
    at = begin + int(cut * (len(whole.rstrip(b"\0")) - begin))
    torn = whole[:at] + (bytes([whole[at] ^ 0xFF]) + whole[at + 1 :] if change else bytes(len(whole) - at))
    last.write_bytes(torn[: len(whole)])

    kept = everything(folder)
    assert kept == numbered(0, len(kept))
    written(folder, *numbered(len(kept), len(kept) + 30))
    assert everything(folder) == numbered(0, len(kept) + 30)
