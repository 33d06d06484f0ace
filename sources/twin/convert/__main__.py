"""Run the converters: the same recorded files give the same bytes."""

from __future__ import annotations

import argparse
import importlib
import pkgutil
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from lakehouse.errors import unknown
from sources.twin import convert
from sources.twin.recording import Recording, write_file


@dataclass(frozen=True, kw_only=True)
class Converter:
    """What one module of this package offers; see the package."""

    name: str
    provider: str
    provenance: str
    recordings: Callable[[Path], Iterator[Recording]]


def converters() -> tuple[Converter, ...]:
    """All converters, by provider and name."""
    found = (_converter(m.name) for m in pkgutil.iter_modules(convert.__path__) if not m.name.startswith("_"))
    return tuple(sorted(found, key=lambda converter: (converter.provider, converter.name)))


def write_recordings(
    chosen: Iterable[Converter], *, shared: Path, folder: Path
) -> Iterator[tuple[Path, int]]:
    """Write `<folder>/<provider>/<module>.jsonl.gz` and PROVENANCE.md; yields files and counts."""
    for provider, group in groupby(chosen, key=lambda converter: converter.provider):
        members = tuple(group)
        for member in members:
            answers = tuple(member.recordings(shared))
            path = folder / provider / f"{member.name}.jsonl.gz"
            write_file(path, answers)
            yield path, len(answers)
        texts = (member.provenance.strip() for member in members)
        (folder / provider / "PROVENANCE.md").write_text("\n\n".join(texts) + "\n", encoding="utf-8")


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the arguments and convert; prints one line a file."""
    parser = argparse.ArgumentParser(prog="python -m sources.twin.convert", description=__doc__)
    parser.add_argument(
        "--from", dest="shared", type=Path, required=True, help="folder of the recorded files"
    )
    parser.add_argument("--to", dest="folder", type=Path, required=True, help="folder of recordings to write")
    parser.add_argument("--only", metavar="PROVIDER", help="convert one provider")
    asked = parser.parse_args(arguments)
    if not asked.shared.is_dir():
        parser.error(f"--from {asked.shared} is not a folder")
    every = converters()
    chosen = [c for c in every if asked.only in (None, c.provider)]
    if not chosen:
        parser.error(str(unknown("provider", asked.only, {c.provider for c in every})))
    for path, count in write_recordings(chosen, shared=asked.shared, folder=asked.folder):
        sys.stdout.write(f"{path}: {count} answers, {path.stat().st_size} bytes\n")


def _converter(name: str) -> Converter:
    module = importlib.import_module(f"{convert.__name__}.{name}")
    return Converter(
        name=name, provider=module.PROVIDER, provenance=module.PROVENANCE, recordings=module.recordings
    )


if __name__ == "__main__":
    main()
