"""What `mnemo stream` does: find the instruments, record, and mend meanwhile what was missed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack

from lakehouse.errors import UsageError
from lakehouse.publish import Run
from lakehouse.store import Store
from lakehouse.window import Window
from sources import registry
from sources.client import Client
from sources.ingest import ingest
from sources.recorder.instruments import instruments_of, with_markets
from sources.recorder.recording import Pulse, Recorder
from sources.repair import FEED, Repairs, left_open
from sources.stream import Channel
from sources.venues import FALLBACKS, venue


def record_stream(
    name: str,
    subjects: Sequence[str],
    *,
    channels: Sequence[str] = (),
    seconds: float | None = None,
    metrics_at: tuple[str, int] | None = None,
    store: Store,
    client: Client,
    run: Run,
    beat: Callable[[Pulse], None] = lambda _pulse: None,
) -> Pulse:
    """Record a stream until a signal comes, or for so many seconds; how it was doing at the end.

    Raises UsageError for a stream, subject or channel that there is not, NotLanded where bronze does not take what is
    in the spool.
    """
    stream = venue(name)
    if not subjects:
        raise UsageError(f"stream {name}: name what to record with --subject, such as {stream.venue}:BTC/USD")
    wanted: list[Channel] = [_channel(one, stream.channels) for one in channels] or list(stream.channels[:2])
    instruments = instruments_of(store, stream, subjects)
    if name in FALLBACKS:
        instruments = with_markets(client, name, instruments)
    sessions = stream.sessions(instruments, wanted)
    feed = registry.feed(FEED)

    def fetch(subject: str, window: Window) -> None:
        ingest(store, feed, subject, window, client=client, run=run)

    with ExitStack() as open_:
        repairs = Repairs(fetch, run.now)
        if stream.provider == "ccxt" and "trades" in wanted:
            feeds = [one for one in registry.feeds().values() if one.stream == name]
            ours = [f"{stream.venue}:{one.instrument_id}" for each in sessions for one in each.instruments]
            repairs.add(left_open(store, feeds, ours, run.now()))
            open_.enter_context(repairs)
        recorder = Recorder(
            stream,
            sessions,
            store=store,
            client=client,
            run=run,
            home=client.settings.home,
            missed=repairs.miss,
            beat=beat,
        )
        if metrics_at:
            from sources.recorder.metrics import metrics  # only where they are asked for

            open_.enter_context(metrics(recorder.pulse, *metrics_at))
        return recorder.run(seconds=seconds)


def _channel(name: str, known: Sequence[Channel]) -> Channel:
    for one in known:
        if one == name:
            return one
    raise UsageError(f"no channel {name!r}; there is {', '.join(known)}")
