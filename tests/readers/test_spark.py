"""Apache Spark reads every table of the demo. `make test-spark` brings it; elsewhere it is skipped with the reason."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

PYTHON, JARS = "MNEMO_TEST_SPARK_PYTHON", "MNEMO_TEST_SPARK_JARS"

pytestmark = pytest.mark.slow


def test_spark_sees_the_rows_that_polars_sees(lake, held, ordered, tmp_path):
    python, jars = _spark()
    asked = {
        "tables": {name: lake.uri(name).replace("s3://", "s3a://", 1) for name in held},
        "into": str(tmp_path),
        "jars": jars,
        "endpoint": lake.settings.s3_endpoint,
        "access_key": lake.settings.s3_access_key,
        "secret_key": lake.settings.s3_secret_key.get_secret_value(),
    }
    script = Path(__file__).with_name("spark_rows.py")
    done = subprocess.run(
        [python, script], input=json.dumps(asked), capture_output=True, text=True, timeout=900, check=False
    )
    assert done.returncode == 0, done.stderr[-4000:]

    for name, rows in held.items():
        found = pl.read_parquet(tmp_path / name / "*.parquet")
        assert_frame_equal(ordered(found, name), rows)


def _spark() -> tuple[str, list[str]]:
    """The Python that has pyspark, and the jars of Delta and S3A."""
    if not shutil.which("java"):
        pytest.skip("Spark needs Java, which is not here")
    if not (os.environ.get(PYTHON) and os.environ.get(JARS)):
        pytest.skip(f"no Spark: run `make test-spark`, or set {PYTHON} and {JARS}")
    jars = sorted(str(path) for path in Path(os.environ[JARS]).glob("*.jar"))
    if not jars:
        pytest.skip(f"no jars in {os.environ[JARS]} ({JARS}): run `make test-spark`")
    return os.environ[PYTHON], jars
