"""The command line, `mnemo`. Thin: each command reads its arguments, calls one function and prints.

Exit codes: 0 done, 1 failure, 2 wrong usage. Heavy packages are imported by the commands that need them.
"""

from __future__ import annotations

import difflib
import logging
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from typer.core import TyperGroup

Format = Literal["table", "csv", "json", "parquet"]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]


class SuggestingGroup(TyperGroup):
    """Names the nearest commands when one is unknown."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find the command; exit code 2 with suggestions otherwise."""
        if args and self.get_command(ctx, args[0]) is None:
            near = difflib.get_close_matches(args[0], self.list_commands(ctx), n=3, cutoff=0.5)
            hint = (
                f"did you mean {', '.join(near)}?"
                if near
                else f"commands: {', '.join(self.list_commands(ctx))}"
            )
            ctx.fail(f"no command {args[0]!r}; {hint}")
        return super().resolve_command(ctx, args)


app = typer.Typer(
    cls=SuggestingGroup,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="A market-data lakehouse: gated, exactly-once, point-in-time tables from six kinds of provider.",
)
quarantine = typer.Typer(
    cls=SuggestingGroup, no_args_is_help=True, help="What could not be promoted, and why."
)
app.add_typer(quarantine, name="quarantine")
alerts = typer.Typer(
    cls=SuggestingGroup, no_args_is_help=True, help="What is wrong, and whether who should know does."
)
app.add_typer(alerts, name="alerts")


def main() -> None:
    """Run the command line; our own errors become one line and an exit code."""
    try:
        app()
    except Exception as error:  # noqa: BLE001 - the outermost frame: everything ends here
        sys.exit(_report(error))


def _tell_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(version("mnemo-quant"))
        raise typer.Exit


@app.callback()
def options(
    debug: Annotated[bool, typer.Option(help="Show tracebacks and debug logs.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show what is being done.")] = False,
    _version: Annotated[
        bool,
        typer.Option("--version", callback=_tell_version, is_eager=True, help="Show the version and exit."),
    ] = False,
) -> None:
    """Options of every command."""
    _set_up_logs(logging.DEBUG if debug else logging.INFO if verbose else logging.WARNING)


@app.command()
def demo(
    keep: Annotated[bool, typer.Option(help="Keep the S3 server running until Enter is pressed.")] = False,
    here: Annotated[bool, typer.Option("--here", help="Write into the lake that is set.")] = False,
) -> None:
    """Run the whole way, from recorded provider bytes to gold, without network or keys."""
    from deployments.demo import run_demo

    run_demo(keep=keep, here=here)


@app.command()
def up(
    port: Annotated[
        int, typer.Option(min=1, max=65535, help="Port of the Prefect server on 127.0.0.1.")
    ] = 4200,
    detach: Annotated[
        bool, typer.Option("--detach", "-d", help="Return when everything is ready; `mnemo down` stops it.")
    ] = False,
) -> None:
    """Run the whole platform here: S3, Prefect server, worker, the deployments of prefect.yaml."""
    from deployments import platform

    platform.up(port=port, detach=detach)


@app.command()
def down() -> None:
    """Stop all that `mnemo up` started, also after a crash of it."""
    from deployments import platform

    stopped = platform.down()
    typer.echo(f"stopped {', '.join(stopped)}" if stopped else "nothing was running")


@app.command()
def ingest(
    feed: Annotated[str, typer.Argument(help="Feed, such as ccxt_trades; see --list.")] = "",
    subject: Annotated[list[str] | None, typer.Option(help="What to fetch; may be given again.")] = None,
    start: Annotated[
        str | None, typer.Option(help="First moment, ISO 8601, UTC; by default a day before the end.")
    ] = None,
    end: Annotated[str | None, typer.Option(help="First moment no longer wanted; by default now.")] = None,
    missing_only: Annotated[
        bool, typer.Option("--missing-only", help="Fetch only what is not covered yet; see `mnemo coverage`.")
    ] = False,
    list_: Annotated[bool, typer.Option("--list", help="List all feeds.")] = False,
    json: Json = False,
) -> None:
    """Fetch from a provider into bronze; without --subject what the watchlist names for the feed."""
    from deployments import commands, show

    if list_ or not feed:
        show.feeds(commands.describe_feeds(), as_json=json)
        return
    done = commands.ingest(feed, subject or [], start, end, missing_only=missing_only)
    show.records(done, as_json=json, title="Ingested", empty="everything is covered already")


@app.command()
def backfill(
    feed: Annotated[str, typer.Argument(help="Feed, such as ccxt_ohlcv; see `mnemo ingest --list`.")],
    subject: Annotated[list[str] | None, typer.Option(help="What to fetch; may be given again.")] = None,
    start: Annotated[str | None, typer.Option(help="First moment, ISO 8601, UTC.")] = None,
    end: Annotated[str | None, typer.Option(help="First moment no longer wanted; by default now.")] = None,
    order: Annotated[
        Literal["newest-first", "oldest-first"], typer.Option(help="Which windows come first.")
    ] = "oldest-first",
    parallel: Annotated[int, typer.Option(min=1, max=64, help="Windows at once, for each host.")] = 4,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only show the plan: windows, requests, time.")
    ] = False,
    json: Json = False,
) -> None:
    """Fetch what of a window is not covered yet, as fast as the provider allows; killed, run it again."""
    from deployments import commands, show
    from deployments.progress import told

    plan = commands.plan_backfill(feed, subject or [], start, end, order=order)
    if dry_run:
        show.records(plan.records(), as_json=json, title="Plan")
        if not json:
            typer.echo(f"{plan.requests} requests, {plan.seconds:.0f} s at the providers' pace")
        return
    with told(len(plan.cells), plan.feed.name) as tell:
        done = commands.backfill(plan, parallel=parallel, tell=tell)
    if json:
        show.records([done], as_json=True, title="Backfilled")
    else:
        brought = (
            f"{done['new_pages']} new pages, {done['size_bytes'] / 1e6:.1f} MB, in {done['seconds']:.0f} s"
        )
        typer.echo(f"{done['windows']} windows: {brought}; `mnemo promote` judges and publishes them")
    if done["left"]:
        typer.secho("\n".join(done["errors"]), fg="red", err=True)
        again = f" after {done['renewed_at']:%Y-%m-%d %H:%M} UTC" if done["renewed_at"] else ""
        typer.secho(f"{done['left']} windows are left: run it again{again}", fg="red", err=True)
        raise typer.Exit(1)


@app.command()
def stream(
    name: Annotated[str, typer.Argument(help="Stream, such as kraken.")],
    subject: Annotated[
        list[str] | None, typer.Option(help="What to record, such as kraken:BTC/USD; may be given again.")
    ] = None,
    channels: Annotated[
        str, typer.Option(help="trades,book,orders; by default trades and books, where there are any.")
    ] = "",
    seconds: Annotated[
        float | None, typer.Option(min=0, help="Stop after so long; by default at Ctrl-C or SIGTERM.")
    ] = None,
    metrics_port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Serve Prometheus metrics on this port.")
    ] = None,
    metrics_host: Annotated[
        str, typer.Option(help="Address to serve them on; 0.0.0.0 in a container.")
    ] = "127.0.0.1",
    json: Json = False,
) -> None:
    """Record live trades and order books into bronze, every frame of them; `mnemo promote` goes on from there."""
    from deployments import commands, show

    wanted = [one.strip() for one in channels.split(",") if one.strip()]
    done = commands.stream(
        name,
        subject or [],
        channels=wanted,
        seconds=seconds,
        metrics_at=None if metrics_port is None else (metrics_host, metrics_port),
    )
    show.records([done], as_json=json, title="Recorded")


@app.command()
def promote(
    table: Annotated[
        list[str] | None, typer.Argument(help="Tables; by default all, in the order of their inputs.")
    ] = None,
    json: Json = False,
) -> None:
    """Judge what is new and publish what is good."""
    from deployments import commands, show

    show.records(
        commands.promote(table or []), as_json=json, title="Promoted", empty="nothing new to promote"
    )


@app.command()
def rebuild(table: Annotated[str, typer.Argument(help="Silver or gold table.")], json: Json = False) -> None:
    """Make a table again from all that it is made from, by today's code; it stays readable meanwhile."""
    from deployments import commands, show

    show.records([commands.rebuild(table)], as_json=json, title="Rebuilt")


@app.command()
def migrate(
    plan: Annotated[bool, typer.Option("--plan", help="Only show what differs; change nothing.")] = False,
    json: Json = False,
) -> None:
    """Bring stored tables up to their contracts; each switches in one commit, readers go on."""
    from deployments import commands, show

    show.records(
        commands.migrate(plan_only=plan),
        as_json=json,
        title="Plan" if plan else "Migrated",
        empty="every stored table is as its contract declares",
    )


@app.command()
def watch(
    table: Annotated[
        list[str] | None, typer.Option(help="Only what is about this table; may be given again.")
    ] = None,
    all_: Annotated[bool, typer.Option("--all", help="Also what is within its limit.")] = False,
    json: Json = False,
) -> None:
    """What is wrong with the lake now: gaps, stale subjects, drift, changed answers, a full quarantine, ...

    Only looks; the flow `watch` also records and alerts. Exit code 1 if anything critical is found or a monitor could
    not look; warnings alone are 0.
    """
    from deployments import commands, show

    seen = commands.watch(table or [])
    show.watch(seen, as_json=json, every=all_)
    for name, error in seen.failed.items():
        typer.secho(f"{name} could not look: {error}", fg="red", err=True)
    if seen.is_critical or seen.failed:
        raise typer.Exit(1)


@app.command()
def upkeep(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only tell what there is to do.")] = False,
    json: Json = False,
) -> None:
    """Compact and order files, delete what is older than the retention; safe beside running writers."""
    from deployments import commands, show

    show.records(
        commands.upkeep(dry_run=dry_run), as_json=json, title="Upkeep", empty="nothing is stored yet"
    )


@app.command()
def explain(
    table: Annotated[str, typer.Argument(help="Silver or gold table, such as gold.candles.")],
    key: Annotated[list[str] | None, typer.Argument(help="COLUMN=VALUE for each column of the key.")] = None,
    all_: Annotated[
        bool, typer.Option("--all", help="Follow every row, not the first and the last.")
    ] = False,
    bytes_: Annotated[
        bool, typer.Option("--bytes", help="Print the pages' bytes, exactly as they were received.")
    ] = False,
    json: Json = False,
) -> None:
    """Where a row comes from: the rows it was made from, the provider's answers, the gate that let it in."""
    from deployments import commands, explained

    explained.write(commands.explain(table, key or [], every_row=all_), as_json=json, as_bytes=bytes_)


@app.command()
def tables(json: Json = False) -> None:
    """What the lake holds."""
    from deployments import show
    from lakehouse import Lake

    show.records(
        Lake.open().tables(), as_json=json, title="Tables", empty="the lake is empty; try `mnemo demo`"
    )


@app.command("show")
def show_table(
    table: Annotated[str, typer.Argument(help="Table, such as silver.trades.")], json: Json = False
) -> None:
    """A table's contract, size, freshness and last verdict."""
    from deployments import show
    from lakehouse import Lake

    show.table(Lake.open(), table, as_json=json)


@app.command()
def read(
    table: Annotated[str, typer.Argument(help="Table, such as gold.candles.")],
    venue: Annotated[str | None, typer.Option(help="Only this exchange.")] = None,
    instrument: Annotated[str | None, typer.Option(help="Only this instrument, such as BTC/USD.")] = None,
    where: Annotated[list[str] | None, typer.Option(help="COLUMN=VALUE; may be given again.")] = None,
    start: Annotated[str | None, typer.Option(help="First moment, ISO 8601, UTC.")] = None,
    end: Annotated[str | None, typer.Option(help="First moment no longer wanted.")] = None,
    as_of: Annotated[str | None, typer.Option(help="Only what was known at this moment (known_at).")] = None,
    versions: Annotated[bool, typer.Option(help="Every version, not just the newest.")] = False,
    limit: Annotated[
        int | None, typer.Option(min=0, help="At most this many rows; 20 by default for --format table.")
    ] = None,
    format: Annotated[Format, typer.Option(help="json is one object a row.")] = "table",  # noqa: A002 - the option's name
    output: Annotated[
        Path | None, typer.Option(help="Write to this file instead of standard output.")
    ] = None,
) -> None:
    """Rows of a table, in the order of its key."""
    from deployments import commands, show

    rows = commands.read(
        table,
        venue=venue,
        instrument=instrument,
        where=where or [],
        start=start,
        end=end,
        as_of=as_of,
        versions=versions,
    )
    show.rows(rows, format=format, limit=limit, output=output)


@app.command()
def sql(
    query: Annotated[str, typer.Argument(help="DuckDB SQL over the lake's tables.")],
    limit: Annotated[
        int | None, typer.Option(min=0, help="At most this many rows; 20 by default for --format table.")
    ] = None,
    format: Annotated[Format, typer.Option(help="json is one object a row.")] = "table",  # noqa: A002 - the option's name
    output: Annotated[
        Path | None, typer.Option(help="Write to this file instead of standard output.")
    ] = None,
) -> None:
    """Ask in SQL; TABLE is the newest version of each fact, TABLE_versions all of them."""
    from deployments import show
    from lakehouse import Lake

    show.rows(Lake.open().sql(query), format=format, limit=limit, output=output)


Covered = Annotated[str, typer.Argument(help="Silver table or feed; by default all.")]
Subject = Annotated[str | None, typer.Option(help="Only this subject of a feed.")]
Start = Annotated[str | None, typer.Option(help="Only what reaches beyond this moment, ISO 8601, UTC.")]
End = Annotated[str | None, typer.Option(help="Only what begins before this moment.")]


@app.command()
def coverage(
    name: Covered = "", subject: Subject = None, start: Start = None, end: End = None, json: Json = False
) -> None:
    """What was fetched, what is proven of it, and what the proof cannot show."""
    from deployments import commands, show

    found = commands.coverage(name, subject=subject, start=start, end=end)
    show.intervals(found, as_json=json, title="Coverage", empty="nothing was fetched yet")


@app.command()
def gaps(
    name: Covered = "", subject: Subject = None, start: Start = None, end: End = None, json: Json = False
) -> None:
    """What was asked for and is not covered: missing, degraded, unavailable."""
    from deployments import commands, show

    found = commands.coverage(name, subject=subject, start=start, end=end, gaps_only=True)
    show.intervals(found, as_json=json, title="Gaps", empty="no gaps in what was fetched")


@app.command()
def verdicts(
    table: Annotated[str | None, typer.Argument(help="Only this table.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="Newest only.")] = 30,
    json: Json = False,
) -> None:
    """How the gates judged."""
    from deployments import commands, show

    show.records(
        commands.verdicts(table, limit), as_json=json, title="Verdicts", empty="nothing was judged yet"
    )


@quarantine.command("list")
def quarantine_list(
    all_: Annotated[bool, typer.Option("--all", help="Also batches that were discarded.")] = False,
    reasons: Annotated[bool, typer.Option("--reasons", help="Only the counts by table and reason.")] = False,
    json: Json = False,
) -> None:
    """Batches with rows in quarantine, since when, and how often each reason holds rows now."""
    from deployments import commands, show

    if not reasons:
        found = commands.quarantined_batches(every=all_)
        show.records(found, as_json=json, title="Quarantine", empty="the quarantine is empty")
    if reasons or not json:
        counted = commands.quarantine_reasons()
        show.records(counted, as_json=json, title="Held now, by reason", empty="nothing is held")


@quarantine.command("show")
def quarantine_show(
    batch_id: Annotated[str, typer.Argument(help="Batch, or the beginning of its id.")], json: Json = False
) -> None:
    """The rows of a batch, each with its reasons, and who discarded it and why."""
    from deployments import commands, show

    show.records(commands.quarantined_rows(batch_id), as_json=json, title=f"Quarantine of {batch_id}")


@quarantine.command("release")
def quarantine_release(
    batch_id: Annotated[str, typer.Argument(help="Batch, or the beginning of its id.")] = "",
    all_: Annotated[bool, typer.Option("--all", help="All batches that are held.")] = False,
    table: Annotated[str, typer.Option(help="All batches of this table that are held.")] = "",
    json: Json = False,
) -> None:
    """Judge pages again by today's rules and publish what passes now; the rest stays."""
    from deployments import commands, show

    if sum(map(bool, (batch_id, all_, table))) != 1:
        raise typer.BadParameter("give a batch, --table or --all")
    done = commands.release(batch_id) if batch_id else commands.release_every(table)
    show.records(done, as_json=json, title="Released", empty="nothing new passes")


@quarantine.command("discard")
def quarantine_discard(
    batch_id: Annotated[str, typer.Argument(help="Batch, or the beginning of its id.")],
    by: Annotated[str, typer.Option(help="Who decides so.")],
    why: Annotated[str, typer.Option(help="Why it will never be published.")],
    json: Json = False,
) -> None:
    """Give up what is held of a batch; nothing is deleted, and it may be released later."""
    from deployments import commands, show

    show.records([commands.discard(batch_id, by=by, why=why)], as_json=json, title="Discarded")


@alerts.command("list")
def alerts_list(json: Json = False) -> None:
    """What is open, the worst first: since when, whose it is, which routes have heard of it."""
    from deployments import commands, show

    show.alerts(commands.open_alerts(), as_json=json)


@alerts.command("silence")
def alerts_silence(
    fingerprint: Annotated[str, typer.Argument(help="Fingerprint of an open alert, as messages show it.")],
    why: Annotated[str, typer.Option(help="What is known about it; kept with the alert.")],
    hours: Annotated[float, typer.Option(min=0, help="For how long; 0 ends a silence.")] = 24.0,
    json: Json = False,
) -> None:
    """Send nothing more about an open alert for a while, but that it is over."""
    from deployments import commands, show

    show.alerts([commands.silence_alert(fingerprint, hours=hours, why=why)], as_json=json)


@alerts.command("test")
def alerts_test(
    route: Annotated[str, typer.Option(help="Only this route.")] = "", json: Json = False
) -> None:
    """Send a test alert, and that it is over, to every route; exit code 1 if one does not arrive."""
    from deployments import commands, show

    found = commands.test_alerts(route)
    show.records(found, as_json=json, title="Routes")
    if any(one["result"] != "sent" for one in found):
        raise typer.Exit(1)


@app.command()
def docs(
    batch: Annotated[
        str, typer.Argument(help="Only the page of this batch, or of the beginning of its id.")
    ] = "",
    open_: Annotated[bool, typer.Option("--open/--no-open", help="Open them in the browser.")] = True,
) -> None:
    """Bring the Data Docs from the lake and open them."""
    from deployments import commands

    page = commands.fetch_docs(batch)
    typer.echo(page)
    if open_:
        typer.launch(page.as_uri())


@app.command()
def ui(
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port on 127.0.0.1.")] = 8421,
    export: Annotated[
        bool, typer.Option("--export", help="Write it as static HTML into the lake instead, below site/.")
    ] = False,
    open_: Annotated[bool, typer.Option("--open/--no-open", help="Open it in the browser.")] = True,
) -> None:
    """Show the lake's page until Ctrl-C: what it holds, how whole and fresh it is, and why a number is what it is."""
    from deployments import commands

    if export:
        typer.echo(commands.export_page())
    else:
        commands.serve_page(port, open_browser=open_)


@app.command()
def twin(
    recordings: Annotated[
        Path | None, typer.Option(help="Folder of recordings; by default those of the package.")
    ] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port on 127.0.0.1.")] = 8765,
    synthetic: Annotated[
        bool, typer.Option("--synthetic", help="Make candles up, and mark them so, where recordings end.")
    ] = False,
    refuse: Annotated[
        float, typer.Option(min=0, max=1, help="Share of the requests answered 429 with Retry-After.")
    ] = 0.0,
) -> None:
    """Serve recorded answers of all providers until Ctrl-C; GET /twin/report tells who exceeded a limit."""
    from deployments import commands

    commands.serve_twin(recordings, port, synthetic=synthetic, refuse=refuse)


@app.command()
def doctor(json: Json = False) -> None:
    """What is wrong with this set-up and what to do about it: settings, keys, store, server, versions."""
    from deployments import doctor as checks
    from deployments import show

    found = checks.run()
    show.records(found, as_json=json, title="Doctor")
    if any(check["result"] == "wrong" for check in found):
        raise typer.Exit(1)


def _set_up_logs(level: int) -> None:
    import structlog

    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty()),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )


def _report(error: Exception) -> int:
    """Print an error as a person should see it; the exit code."""
    if "--debug" in sys.argv:
        import traceback

        traceback.print_exception(error)
    from lakehouse.errors import MnemoError, UsageError

    expected = isinstance(error, MnemoError)
    text = str(error) if expected else f"{type(error).__name__}: {error} (`mnemo --debug ...` shows where)"
    typer.secho(text, fg="red", err=True)
    return 2 if isinstance(error, UsageError) else 1
