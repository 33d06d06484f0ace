"""Tables about the lake itself: same store, same rules."""

from __future__ import annotations

import polars as pl

from lakehouse.contract import UTC_US, Column, Table

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
            values=("held", "released"),
            doc="held: waits; released: published after all.",
        ),
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
            doc="Bronze table, version of the fetch's commit, position.",
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

TABLES = (VERDICTS, QUARANTINE, COVERAGE, MIGRATIONS, QUOTA)
