"""Which asset is meant: one identity across venues, CoinMetrics and the underlyings of prediction markets.

Ids are CoinMetrics' own, so a row of `silver.instruments` meets `silver.asset_metrics` in `base_asset`. Only what
`assets.yaml` says is certain gets one: the same ticker means different coins on different venues, and on one venue
different coins in different years. Nothing is guessed from names.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, model_validator

Basis = Literal["common", "venue"]

_CONFIG = ConfigDict(extra="forbid", frozen=True)


class PriceSource(BaseModel):
    """Addresses of one kind that name an asset: the pattern's group `base` is its code on `venue`."""

    model_config = _CONFIG
    address: re.Pattern[str]
    venue: str


class Assets(BaseModel):
    """`assets.yaml`, checked: codes that are certain everywhere, or on one venue, and codes that are not."""

    model_config = _CONFIG
    common: tuple[tuple[str, ...], ...]
    venues: Mapping[str, Mapping[str, str]]
    ambiguous: Mapping[str, str]
    price_sources: tuple[PriceSource, ...]

    @model_validator(mode="after")
    def _ambiguous_is_not_common(self) -> Self:
        both = sorted({code for row in self.common for code in row} & set(self.ambiguous))
        if both:
            raise ValueError(f"codes cannot be common and ambiguous: {', '.join(both)}")
        return self


@cache
def assets() -> Assets:
    """All rows of `assets.yaml`."""
    text = Path(__file__).with_name("assets.yaml").read_text(encoding="utf-8")
    return Assets.model_validate(yaml.safe_load(text))


def asset_of(venue: str, code: str | None) -> tuple[str, Basis] | None:
    """CoinMetrics' id of what a venue's own code means, and why that is certain; None where it is not.

    Some venues write common codes in lower case; codes of their own are taken as they are.
    """
    if code is None:
        return None
    own = assets().venues.get(venue, {}).get(code)
    if own:
        return own, "venue"
    return (code.lower(), "common") if code.upper() in _common() else None


def assets_of(venue: str, **codes: str | None) -> dict[str, str | None]:
    """Columns `<name>_asset` for the codes given by name, and `asset_basis`: why those that have an id have it."""
    found = {name: asset_of(venue, code) for name, code in codes.items()}
    bases = {one[1] for one in found.values() if one}
    basis = "venue" if "venue" in bases else "common" if bases else None
    return {**{f"{name}_asset": one[0] if one else None for name, one in found.items()}, "asset_basis": basis}


def underlying_of(price_source: str | None) -> str | None:
    """The asset whose price decides a prediction market, by the address that its rules name; None if not certain."""
    for source in assets().price_sources:
        if found := source.address.match(price_source or ""):
            asset = asset_of(source.venue, found["base"])
            return asset[0] if asset else None
    return None


@cache
def _common() -> frozenset[str]:
    return frozenset(code for row in assets().common for code in row)
