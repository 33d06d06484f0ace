"""The committed recordings are what the converters make of the recorded files."""

import gzip
import re
from pathlib import Path

import pytest

from sources.twin.convert.__main__ import converters, main
from sources.twin.recording import read_folder

ROOT = Path(__file__).parents[2]
SHARED = ROOT / "../shared/recorded"
SMALL_BYTES = 300_000


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs the recorded files in ../shared/recorded")
@pytest.mark.parametrize("provider", sorted({converter.provider for converter in converters()}))
def test_the_committed_recordings_are_made_by_the_converters(provider, tmp_path):
    main(["--from", str(SHARED), "--to", str(tmp_path), "--only", provider])
    made = sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file())
    assert made
    for path in made:
        assert _content(tmp_path / path) == _content(ROOT / "recordings" / path), path


@pytest.mark.parametrize("provider", sorted({converter.provider for converter in converters()}))
def test_recordings_are_small_readable_and_say_where_they_come_from(provider):
    folder = ROOT / "recordings" / provider
    assert sum(path.stat().st_size for path in folder.iterdir()) < SMALL_BYTES
    assert list(read_folder(folder))
    provenance = (folder / "PROVENANCE.md").read_text(encoding="utf-8")
    assert re.search("licen[cs]e", provenance, re.IGNORECASE)
    assert "http" in provenance


def test_an_unknown_provider_is_refused_with_the_nearest_names(tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["--from", str(tmp_path), "--to", str(tmp_path), "--only", "fredd"])
    assert "did you mean fred" in capsys.readouterr().err


def _content(path: Path) -> bytes:
    raw = path.read_bytes()
    return gzip.decompress(raw) if path.suffix == ".gz" else raw
