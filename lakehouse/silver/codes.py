"""silver.codes: what the codes in a provider's keys and attributes mean."""

from datetime import timedelta

import polars as pl

from lakehouse.contract import Column, Table
from lakehouse.fields import EVENT_AT, PROVENANCE

TABLE = Table(
    name="silver.codes",
    doc="One row for each code that a part of a data set may take, with its label; a changed label is a new row.",
    columns=(
        Column(name="data_set", dtype=pl.String(), doc="The provider's id of the data set: WS_GLI."),
        Column(
            name="component", dtype=pl.String(), doc="The dimension or attribute: BORROWERS_CTY, OBS_STATUS."
        ),
        Column(name="code", dtype=pl.String(), doc="The code, as it stands in keys and columns: 3P."),
        EVENT_AT.but(doc="When the answer was received: the provider does not say since when a code holds."),
        *PROVENANCE,
        Column(name="label", dtype=pl.String(), doc="What the code means, in English."),
        Column(
            name="code_list",
            dtype=pl.String(),
            doc="The code list: agency, id and version, BIS:CL_FREQ(1.0).",
        ),
        Column(
            name="parent",
            dtype=pl.String(),
            nullable=True,
            doc="The code that contains this one, where said. Codes overlap also without it: never add them up.",
        ),
        Column(
            name="position",
            dtype=pl.Int64(),
            nullable=True,
            lower=1,
            doc="Place of the dimension in the key, from 1; null for an attribute.",
        ),
    ),
    key=("provider", "data_set", "component", "code", "known_at"),
    subject=("provider", "data_set"),
    owner="macro",
    freshness=timedelta(days=400),
)
