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
            near = difflib.get_close_matches(args[0], self.list_commands(ctx), n=3, cutoff=0.4)
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


def main() -> None:
    """Run the command line; our own errors become one line and an exit code."""
    try:
        app()
    except Exception as error:  # noqa: BLE001 - the outermost frame: everything ends here
        sys.exit(_report(error))


@app.callback()
def options(
    debug: Annotated[bool, typer.Option(help="Show tracebacks and debug logs.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show what is being done.")] = False,
) -> None:
    """Options of every command."""
    _set_up_logs(logging.DEBUG if debug else logging.INFO if verbose else logging.WARNING)


@app.command()
def demo(
    keep: Annotated[bool, typer.Option(help="Keep the S3 server running afterwards, until Ctrl-C.")] = False,
) -> None:
    """Run the whole way, from recorded provider bytes to gold, without network or keys."""
    from deployments.demo import run_demo

    run_demo(keep=keep)


@app.command()
def ingest(
    feed: Annotated[str, typer.Argument(help="Feed, such as ccxt_trades; see --list.")] = "",
    subject: Annotated[list[str] | None, typer.Option(help="What to fetch; may be given again.")] = None,
    start: Annotated[
        str | None, typer.Option(help="First moment, ISO 8601, UTC; by default a day before the end.")
    ] = None,
    end: Annotated[str | None, typer.Option(help="First moment no longer wanted; by default now.")] = None,
    list_: Annotated[bool, typer.Option("--list", help="List all feeds.")] = False,
    json: Json = False,
) -> None:
    """Fetch from a provider into bronze; without --subject what the watchlist names for the feed."""
    from deployments import commands, show

    if list_ or not feed:
        show.records(commands.describe_feeds(), as_json=json, title="Feeds")
        return
    show.records(commands.ingest(feed, subject or [], start, end), as_json=json, title="Ingested")


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
def quarantine_list(json: Json = False) -> None:
    """Batches with rows in quarantine."""
    from deployments import commands, show

    show.records(
        commands.quarantined_batches(), as_json=json, title="Quarantine", empty="the quarantine is empty"
    )


@quarantine.command("show")
def quarantine_show(
    batch_id: Annotated[str, typer.Argument(help="Batch, or the beginning of its id.")], json: Json = False
) -> None:
    """The rows of a batch, each with its reasons."""
    from deployments import commands, show

    show.records(commands.quarantined_rows(batch_id), as_json=json, title=f"Quarantine of {batch_id}")


@quarantine.command("release")
def quarantine_release(
    batch_id: Annotated[str, typer.Argument(help="Batch, or the beginning of its id.")], json: Json = False
) -> None:
    """Judge a batch's pages again by today's rules and publish what passes now; the rest stays."""
    from deployments import commands, show

    show.records(commands.release(batch_id), as_json=json, title="Released")


@app.command()
def docs(
    open_: Annotated[bool, typer.Option("--open/--no-open", help="Open them in the browser.")] = True,
) -> None:
    """Bring the Data Docs from the lake and open them."""
    from deployments import commands

    index = commands.fetch_docs()
    typer.echo(index)
    if open_:
        typer.launch(index.as_uri())


@app.command()
def twin(
    recordings: Annotated[
        Path | None, typer.Option(help="Folder of recordings; by default those of the package.")
    ] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port on 127.0.0.1.")] = 8765,
) -> None:
    """Serve recorded answers of all providers until Ctrl-C."""
    from deployments import commands

    commands.serve_twin(recordings, port)


@app.command()
def doctor(json: Json = False) -> None:
    """Check settings, keys, the store and versions."""
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
    text = str(error) if expected else f"{type(error).__name__}: {error} (--debug shows where)"
    typer.secho(text, fg="red", err=True)
    return 2 if isinstance(error, UsageError) else 1
