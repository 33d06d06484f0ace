"""Tables about the lake itself: same store, same rules."""

from __future__ import annotations

import polars as pl

from lakehouse.contract import UTC_US, Column, Table
from lakehouse.measured import QUANTILES

_BATCH_ID = Column(
    name="batch_id", dtype=pl.String(), doc="Names the input positions that the batch came from."
)
_TABLE = Column(name="table", dtype=pl.String(), doc="The table that the batch was for.")
_INPUTS = Column(name="inputs", dtype=pl.List(pl.String()), doc="The tables that the batch was read from.")
_RUN_ID = Column(name="run_id", dtype=pl.String(), doc="The run that did it.")

VERDICTS = Table(
    name="ops.verdicts",
    doc="Every judgement of a batch, passed or not.",
    columns=(
        _BATCH_ID,
        _TABLE,
        _INPUTS,
        Column(name="judged_at", dtype=UTC_US, unit="UTC", doc="When."),
        Column(
            name="level",
            dtype=pl.String(),
            values=("passed", "warning", "blocked"),
            doc="passed: all good; warning: published, look at it; blocked: nothing was published.",
        ),
        Column(name="rows", dtype=pl.Int64(), lower=0, doc="Rows in the whole batch."),
        Column(name="published_rows", dtype=pl.Int64(), lower=0, doc="Rows that were published."),
        Column(
            name="quarantined_rows",
            dtype=pl.Int64(),
            lower=0,
            doc="Rows and unreadable pages put in quarantine.",
        ),
        Column(name="reasons", dtype=pl.String(), doc="JSON: reason or remark -> number of rows."),
        Column(name="findings", dtype=pl.String(), doc="JSON: what each expectation found."),
        Column(name="docs_key", dtype=pl.String(), doc="Key of the page for people within the lake's files."),
        Column(name="contract", dtype=pl.String(), doc="Fingerprint of the table's contract at the time."),
        Column(name="code_version", dtype=pl.String(), doc="Version of this package."),
        _RUN_ID,
    ),
    key=("batch_id",),
    subject=("table",),
    owner="operations",
    time_column="judged_at",
)

QUARANTINE = Table(
    name="ops.quarantine",
    doc="What could not be promoted, with the reasons; nothing is lost.",
    columns=(
        Column(name="quarantine_id", dtype=pl.String(), doc="Batch and position within it."),
        _BATCH_ID,
        _TABLE,
        _INPUTS,
        Column(name="quarantined_at", dtype=UTC_US, unit="UTC", doc="When."),
        Column(
            name="page_id", dtype=pl.Int64(), nullable=True, doc="The bronze page it came from, for silver."
        ),
        Column(name="reasons", dtype=pl.List(pl.String()), doc="Names of the rules that were broken."),
        Column(name="explanation", dtype=pl.String(), doc="The reasons in a sentence."),
        Column(
            name="content_id",
            dtype=pl.String(),
            nullable=True,
            doc="Hash of what the row says and of its reasons, clocks left out: the same defect is held once.",
        ),
        Column(
            name="row",
            dtype=pl.String(),
            nullable=True,
            doc="The row as JSON; null for a page nobody can read.",
        ),
        Column(
            name="status",
            dtype=pl.String(),
            values=("held", "released", "discarded"),
            doc="held: waits; released: the fact was published after all; discarded: somebody decided that it never "
            "will be. Nothing is deleted.",
        ),
        Column(name="discarded_by", dtype=pl.String(), nullable=True, doc="Who discarded it."),
        Column(name="discarded_why", dtype=pl.String(), nullable=True, doc="Why, in that person's words."),
        Column(name="discarded_at", dtype=UTC_US, unit="UTC", nullable=True, doc="When it was discarded."),
        _RUN_ID,
    ),
    key=("quarantine_id",),
    subject=("table",),
    owner="operations",
    time_column="quarantined_at",
)

COVERAGE = Table(
    name="ops.coverage",
    doc="What fetches have shown of stretches of time, each with its proof; `mnemo coverage` says what it amounts to.",
    columns=(
        Column(
            name="coverage_id",
            dtype=pl.String(),
            doc="Bronze table, version of the fetch's commit, places in it.",
        ),
        Column(name="feed", dtype=pl.String(), doc="The feed that asked."),
        Column(name="subject", dtype=pl.String(), doc="What the feed was asked for."),
        Column(name="table", dtype=pl.String(), doc="The table that the feed fills."),
        Column(
            name="about",
            dtype=pl.String(),
            doc="JSON: the subject columns of the rows it is about, as a list.",
        ),
        Column(name="start", dtype=UTC_US, unit="UTC", doc="First moment spoken of."),
        Column(name="end", dtype=UTC_US, unit="UTC", doc="First moment no longer spoken of."),
        Column(
            name="status",
            dtype=pl.String(),
            values=("complete", "degraded", "missing", "unavailable"),
            doc="Complete over an earlier missing or unavailable makes it repaired: that is read, not stored.",
        ),
        Column(
            name="proof",
            dtype=pl.String(),
            doc="Kind of proof: every_bar, id_range, count, told_until, paged_to_end, snapshot, ...",
        ),
        Column(
            name="evidence",
            dtype=pl.String(),
            doc="JSON: numbers of the proof, and how many pages it rests on with a checksum of their ids.",
        ),
        Column(
            name="cannot_show", dtype=pl.String(), doc="What the proof cannot show; empty where it shows all."
        ),
        Column(name="asked_at", dtype=UTC_US, unit="UTC", doc="When the provider was asked."),
        Column(
            name="recorded_at",
            dtype=UTC_US,
            unit="UTC",
            doc="When the fetch was over: of equal claims the newest counts.",
        ),
        _RUN_ID.but(doc="The run that fetched."),
    ),
    key=("coverage_id",),
    subject=("feed", "subject"),
    owner="operations",
    time_column="recorded_at",
)

MIGRATIONS = Table(
    name="ops.migrations",
    doc="Every migration that changed a stored table.",
    columns=(
        Column(name="table", dtype=pl.String(), doc="The table that was changed."),
        Column(
            name="table_id", dtype=pl.String(), doc="Its id in Delta: a table created anew has another one."
        ),
        Column(name="number", dtype=pl.Int64(), lower=1, doc="Position among the table's migrations."),
        Column(name="name", dtype=pl.String(), doc="Name of the migration."),
        Column(name="doc", dtype=pl.String(), doc="What it changed."),
        Column(
            name="recorded_at", dtype=UTC_US, unit="UTC", doc="When it was written down, after it was done."
        ),
        Column(name="version", dtype=pl.Int64(), doc="Version of the table that it made."),
        Column(name="contract", dtype=pl.String(), doc="Fingerprint of the contract that it made true."),
        Column(name="code_version", dtype=pl.String(), doc="Version of this package."),
        _RUN_ID,
    ),
    key=("table_id", "number"),
    subject=("table",),
    owner="operations",
    time_column="recorded_at",
)

QUOTA = Table(
    name="ops.quota",
    doc="What each machine has used of the providers' limits, told now and then; of a day's budget at once.",
    columns=(
        Column(name="provider", dtype=pl.String(), doc="The provider."),
        Column(name="host", dtype=pl.String(), doc="The host or exchange whose limit it is."),
        Column(
            name="key_id",
            dtype=pl.String(),
            doc="A short hash of the key that the limit goes by; empty where it goes by the machine's address.",
        ),
        Column(name="window_start", dtype=UTC_US, unit="UTC", doc="Beginning of the window of counting."),
        Column(
            name="window_s", dtype=pl.Float64(), unit="s", above=0, doc="Length of the window of counting."
        ),
        Column(
            name="zone",
            dtype=pl.String(),
            doc="Time zone of a limit by the calendar day; empty for any other limit.",
        ),
        Column(name="allowed", dtype=pl.Int64(), lower=0, doc="What the limit allows in a window."),
        Column(
            name="used",
            dtype=pl.Float64(),
            lower=0,
            doc="What this machine has used in the window, requests or the provider's own weights.",
        ),
        Column(
            name="remaining",
            dtype=pl.Float64(),
            nullable=True,
            lower=0,
            doc="What is left as the provider's last answer said; null where it does not say.",
        ),
        Column(
            name="reset_at",
            dtype=UTC_US,
            unit="UTC",
            nullable=True,
            doc="When the provider counts anew, as its last answer said.",
        ),
        Column(
            name="blocked_until",
            dtype=UTC_US,
            unit="UTC",
            nullable=True,
            doc="Until when the provider asked this machine to wait.",
        ),
        Column(name="machine", dtype=pl.String(), doc="Tells machines apart; made at random in MNEMO_HOME."),
        Column(name="observed_at", dtype=UTC_US, unit="UTC", doc="When it was told."),
    ),
    key=("provider", "host", "key_id", "zone", "window_s", "window_start", "machine", "observed_at"),
    subject=("provider", "host"),
    owner="operations",
    time_column="observed_at",
)

ALERTS = Table(
    name="ops.alerts",
    doc="History of alerts: what was found wrong and when it was over, who was told; `mnemo alerts list` says what is"
    " open.",
    columns=(
        Column(
            name="serial",
            dtype=pl.Int64(),
            lower=0,
            doc="Number of the commit: the history is read in this order, whatever the clocks of machines say.",
        ),
        Column(name="fingerprint", dtype=pl.String(), doc="Hash of monitor, table and subject."),
        Column(
            name="event",
            dtype=pl.String(),
            values=("opened", "changed", "resolved", "silenced", "claimed", "sent", "failed"),
            doc="changed: its severity; claimed: about to be sent to the route; sent, failed: what became of it.",
        ),
        Column(
            name="status",
            dtype=pl.String(),
            values=("open", "resolved"),
            doc="How the alert stood, or was said to stand.",
        ),
        Column(
            name="route", dtype=pl.String(), doc="Who was told; empty for what happened to the alert itself."
        ),
        Column(name="monitor", dtype=pl.String(), doc="Who found it."),
        _TABLE.but(doc="The table it is about; empty where it is about the lake or a provider."),
        Column(name="subject", dtype=pl.String(), doc="What of the table, or which provider."),
        Column(name="severity", dtype=pl.String(), values=("critical", "warning"), doc="How bad it was."),
        Column(name="owner", dtype=pl.String(), doc="Who is to hear of it."),
        Column(name="summary", dtype=pl.String(), doc="What was found, in a sentence."),
        Column(name="link", dtype=pl.String(), doc="Where to read on."),
        Column(name="measured", dtype=pl.Float64(), nullable=True, doc="The figure, in the limit's unit."),
        Column(name="limit", dtype=pl.Float64(), nullable=True, doc="What the figure was held against."),
        Column(
            name="detail",
            dtype=pl.String(),
            doc="Why sending failed, or why it was silenced; holds no secrets.",
        ),
        Column(
            name="silenced_until",
            dtype=UTC_US,
            unit="UTC",
            nullable=True,
            doc="Until when nobody wants to hear of it.",
        ),
        Column(name="recorded_at", dtype=UTC_US, unit="UTC", doc="When."),
        _RUN_ID,
    ),
    key=("serial", "fingerprint", "event", "route"),
    subject=("monitor", "table"),
    owner="operations",
    time_column="recorded_at",
)

MONITORS = Table(
    name="ops.monitors",
    doc="What every watch measured of the lake, also where all was well; `mnemo watch` looks anew.",
    columns=(
        Column(name="looked_at", dtype=UTC_US, unit="UTC", doc="The moment that the watch judged."),
        Column(name="monitor", dtype=pl.String(), doc="Which question was asked; see docs/monitors.md."),
        Column(
            name="table",
            dtype=pl.String(),
            doc="The table that it is about; empty where it is about a provider.",
        ),
        Column(
            name="subject",
            dtype=pl.String(),
            doc="What of the table, or which provider; empty where it is all of it.",
        ),
        Column(name="measured", dtype=pl.Float64(), unit="`unit`", doc="What was measured."),
        Column(name="limit", dtype=pl.Float64(), unit="`unit`", doc="Above it something is wrong."),
        Column(name="unit", dtype=pl.String(), doc="Unit of both."),
        Column(
            name="level",
            dtype=pl.String(),
            values=("passed", "warning", "critical"),
            doc="passed: within the limit; else how grave it is that it is not.",
        ),
        Column(name="summary", dtype=pl.String(), doc="The same as a sentence."),
        Column(
            name="docs_key",
            dtype=pl.String(),
            doc="Key of the page for people within the lake's files; empty where none was written.",
        ),
        Column(name="code_version", dtype=pl.String(), doc="Version of this package."),
        _RUN_ID.but(doc="The run that looked."),
    ),
    key=("looked_at", "monitor", "table", "subject"),
    subject=("monitor",),
    owner="operations",
    time_column="looked_at",
)

HOPS = {
    "event_to_received": "From when it happened to when its page was received; of history that is its age.",
    "received_to_published": "From receipt to the commit of the table: bronze to silver, or to gold.",
    "input_to_published": "From the commit of an input to that of the table made of it: silver to gold.",
}

METRICS = Table(
    name="ops.metrics",
    doc="What fetches and promotions brought, cost and how late they were; a run writes its rows at its end.",
    columns=(
        Column(
            name="kind",
            dtype=pl.String(),
            values=("fetch", "promotion"),
            doc="fetch: a subject of a feed in a run; promotion: a batch.",
        ),
        _TABLE.but(doc="The table that was written: of a fetch the bronze table."),
        Column(name="subject", dtype=pl.String(), doc="Of a fetch: what the feed was asked for; else empty."),
        _BATCH_ID.but(doc="Of a promotion: the batch; else empty."),
        Column(
            name="rows", dtype=pl.Int64(), lower=0, doc="Rows that were judged; of a fetch pages received."
        ),
        Column(name="new_rows", dtype=pl.Int64(), lower=0, doc="Rows published; of a fetch pages stored."),
        Column(
            name="held_rows", dtype=pl.Int64(), lower=0, doc="Rows and unreadable pages put in quarantine."
        ),
        Column(
            name="size_bytes",
            dtype=pl.Int64(),
            unit="bytes",
            lower=0,
            doc="Of a fetch the bodies received; of a promotion the rows published, as they lie in memory.",
        ),
        Column(
            name="requests",
            dtype=pl.Int64(),
            nullable=True,
            lower=0,
            doc="Of a fetch: requests that were answered; those refused or tried again count in ops.quota.",
        ),
        Column(name="wall_s", dtype=pl.Float64(), unit="s", nullable=True, doc="How long it took."),
        Column(
            name="cpu_s",
            dtype=pl.Float64(),
            unit="s",
            nullable=True,
            doc="Of a promotion: processor time of the process meanwhile.",
        ),
        Column(name="gate_wall_s", dtype=pl.Float64(), unit="s", nullable=True, doc="How long judging took."),
        Column(
            name="gate_cpu_s",
            dtype=pl.Float64(),
            unit="s",
            nullable=True,
            doc="Processor time of judging; the first in a process imports the library.",
        ),
        Column(
            name="lag_s",
            dtype=pl.Float64(),
            unit="s",
            nullable=True,
            doc="From the newest published row's own time to the commit.",
        ),
        *(
            Column(
                name=f"{hop}_{quantile}_s",
                dtype=pl.Float64(),
                unit="s",
                nullable=True,
                doc=f"{doc} {share:.0%} of the rows took no longer.",
            )
            for hop, doc in HOPS.items()
            for quantile, share in QUANTILES.items()
        ),
        Column(name="recorded_at", dtype=UTC_US, unit="UTC", doc="When it was published, or the run ended."),
        _RUN_ID,
    ),
    key=("run_id", "kind", "table", "subject", "batch_id", "recorded_at"),
    subject=("table",),
    owner="operations",
    time_column="recorded_at",
)

TABLES = (VERDICTS, QUARANTINE, COVERAGE, MIGRATIONS, QUOTA, ALERTS, MONITORS, METRICS)
