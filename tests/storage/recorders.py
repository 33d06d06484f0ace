"""Recorders to be killed: forked from a process in which everything is imported already, and nothing else is done.

Told on standard input, one JSON object a line: `{"start": {...}}` answers with a process id, `{"wait": pid}` with its
exit code, negative for a signal.
"""

import json
import os
import sys
import traceback
from datetime import UTC, datetime, timedelta
from pathlib import Path

from lakehouse.publish import Run
from lakehouse.settings import Settings
from lakehouse.store import Store
from sources.client import Client
from sources.recorder.recording import Recorder, Rhythm
from sources.spool import Pace
from sources.stream import Instrument
from sources.venues import venue

BTC = Instrument(instrument_id="BTC/USD", symbol="BTC/USD", price_digits=1, amount_digits=8)


def record(lake: dict, home: str, url: str, late_s: float) -> None:
    """Record until a signal comes."""
    kraken = venue("kraken")
    rhythm = Rhythm(land_s=0.15, tell_s=0.2, tick_s=0.1, retry_s=0.02, late=timedelta(seconds=late_s))
    with Client(Settings(home=Path(home), twin_url=url)) as client:
        Recorder(
            kraken,
            kraken.sessions([BTC], ("trades", "book")),
            store=Store(Settings(**lake)),
            client=client,
            run=Run(run_id="killed", code_version="0", now=lambda: datetime.now(UTC)),
            home=Path(home),
            rhythm=rhythm,
            pace=Pace(segment_bytes=1 << 18),
        ).run()


def main() -> None:
    for line in sys.stdin:
        asked = json.loads(line)
        if "wait" in asked:
            answer = os.waitstatus_to_exitcode(os.waitpid(asked["wait"], 0)[1])
        elif (answer := os.fork()) == 0:
            try:
                record(**asked["start"])
            except BaseException:  # noqa: BLE001 - a child must not go on as its parent
                traceback.print_exc()
                os._exit(1)
            os._exit(0)
        sys.stdout.write(f"{answer}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
