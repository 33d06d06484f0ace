"""What is promoted and backfilled, by table and feed: here one after the other, on a cluster side by side."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from lakehouse import catalog
from lakehouse.errors import MnemoError
from lakehouse.ledger import promote_coverage, promote_coverage_of_share, remembering, shares_to_state
from lakehouse.promotion import promote_model, promote_pages, promote_share, shares_to_promote
from lakehouse.publish import Promoted, Run
from lakehouse.shares import Share
from lakehouse.verdict import Judge
from lakehouse.window import Window
from sources import backfill, backfill_plan, registry
from sources.backfill import Report
from sources.errors import ParseError
from sources.feed import Feed
from tasks import engine, session
from tasks.engine import Job

_WORTH_CUTTING = 16
"""Fewer new fetches than this are one job: a future and a commit for each share would cost more."""
_NAMED = 3
"""How many subjects a failed share names."""


class SharesFailed(MnemoError):
    """Some shares of a promotion could not be promoted, or subjects not fetched; the others were."""


def promote_here(table: str, run: Run) -> Iterator[Promoted]:
    """Promote everything new into one table in this process."""
    if table in catalog.models():
        yield from promote_model_whole(table, run)
    for feed in registry.feeds_filling(table):
        yield from promote_feed_whole(feed.name, run)


def promote_on_cluster(table: str, run: Run) -> Iterator[Promoted]:
    """Promote everything new into one table on the cluster: cut where there is much of it, else as one job.

    Raises SharesFailed, which names what failed, once all else is done.
    """
    if table in catalog.models():
        yield from _outcomes(promote_model_whole, [Job(name=table, arguments=(table, run))])
    for feed in registry.feeds_filling(table):
        if jobs := _shares(feed, run):
            yield from _outcomes(promote_one_share, jobs)
        else:
            whole = Job(name=f"{table} from {feed.name}", arguments=(feed.name, run))
            yield from _outcomes(promote_feed_whole, [whole])


def promote_model_whole(table: str, run: Run) -> list[Promoted]:
    """Promote all that is new into a gold table."""
    model = catalog.models()[table]
    return promote_model(session.store(), model, judge=_judge(), run=run)


def promote_feed_whole(feed: str, run: Run) -> list[Promoted]:
    """Promote all that is new of one feed, and state what its fetches prove."""
    named, store = registry.feed(feed), session.store()
    parse = remembering(named.parse)
    done = promote_pages(
        store,
        named.table,
        named.bronze,
        parse,
        judge=_judge(),
        run=run,
        parse_error=ParseError,
        streaming=named.streaming,
    )
    promote_coverage(store, replace(named.source, parse=parse))
    return done


def promote_one_share(feed: str, share: Share | None, stating: Share | None, run: Run) -> list[Promoted]:
    """Promote one share of a feed, and state what its fetches prove. Done twice, it does nothing."""
    named, store = registry.feed(feed), session.store()
    parse = remembering(named.parse)
    done: list[Promoted] = []
    if share:
        done = promote_share(
            store, named.table, named.bronze, parse, share, judge=_judge(), run=run, parse_error=ParseError
        )
    if stating:
        promote_coverage_of_share(store, replace(named.source, parse=parse), stating)
    return done


def _judge() -> Judge:
    from expectations.gate import Gate  # heavy: only where something is judged

    return Gate(session.files()).judge


def _shares(feed: Feed, run: Run) -> list[Job]:
    """One job a share; none where little is new or it cannot be cut."""
    if feed.streaming:
        return []
    store = session.store()
    wanted = {one.number: one for one in shares_to_promote(store, feed.table, feed.bronze)}
    if sum(len(one.versions) for one in wanted.values()) < _WORTH_CUTTING:
        return []
    stating = {one.number: one for one in shares_to_state(store, feed.source)}
    return [
        Job(
            name=_name(feed, wanted.get(number) or stating[number]),
            arguments=(feed.name, wanted.get(number), stating.get(number), run),
        )
        for number in sorted({*wanted, *stating})
    ]


def _outcomes(work: Callable[..., list[Promoted]], jobs: Sequence[Job]) -> Iterator[Promoted]:
    trouble = []
    for outcome in engine.run_all(work, jobs):
        if outcome.error:
            trouble.append(f"{outcome.job.name}: {type(outcome.error).__name__}: {outcome.error}")
        yield from outcome.value or ()
    if trouble:
        raise SharesFailed("\n".join(trouble))


def backfill_subjects(
    feed: str,
    subjects: Sequence[str],
    wanted: Window,
    order: backfill_plan.Direction,
    *,
    parallel: int,
    run: Run,
) -> Report:
    """Backfill each subject on a worker; limits hold for each machine, and for all where Prefect keeps them."""
    jobs = [
        Job(name=f"{feed} {subject}", arguments=(feed, subject, wanted, order, parallel, run))
        for subject in subjects
    ]
    outcomes = list(engine.run_all(backfill_one, jobs))
    reports = [one.value for one in outcomes if one.value]
    lost = [f"{one.job.name}: {type(one.error).__name__}: {one.error}" for one in outcomes if one.error]
    return _together(feed, reports, lost)


def backfill_one(
    feed: str, subject: str, wanted: Window, order: backfill_plan.Direction, parallel: int, run: Run
) -> Report:
    """A worker's job: fetch what of one subject is missing."""
    store, client = session.store(), session.client()
    plan = backfill_plan.plan(store, registry.feed(feed), [subject], wanted, client=client, order=order)
    return backfill.carry_out(plan, store=store, client=client, run=run, parallel=parallel)


def _together(feed: str, reports: Sequence[Report], lost: Sequence[str]) -> Report:
    """One report of all; a subject without one is left as a whole."""
    counted = {
        name: sum(getattr(one, name) for one in reports)
        for name in ("windows", "covered_meanwhile", "pages", "new_pages", "size_bytes", "left")
    }
    renewed = [one.renewed_at for one in reports if one.renewed_at]
    return Report(
        feed=feed,
        **{**counted, "left": counted["left"] + len(lost)},
        seconds=max((one.seconds for one in reports), default=0.0),
        errors=tuple(dict.fromkeys([*(text for one in reports for text in one.errors), *lost])),
        renewed_at=min(renewed, default=None),
    )


def _name(feed: Feed, share: Share) -> str:
    subjects = ", ".join(share.subjects[:_NAMED])
    more = len(share.subjects) - _NAMED
    return f"{feed.table.name} from {feed.name}: {subjects}" + (f" and {more} more" if more > 0 else "")
