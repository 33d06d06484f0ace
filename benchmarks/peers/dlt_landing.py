"""dlt: the same pages into a Delta table on the same server, a pipeline run for each batch.

Told a folder of files `<batch>-<page>`; a row is a page: number, time, body as text. dlt extracts, normalises and loads
them through its own files and appends to one Delta table; no page is looked for before.
"""

import json
import os
import sys
import tempfile
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path

import dlt
from deltalake import DeltaTable

from benchmarks.measure import costs

told = json.load(sys.stdin)
os.environ["RUNTIME__DLTHUB_TELEMETRY"] = "false"
os.environ["RUNTIME__LOG_LEVEL"] = "CRITICAL"
secrets = {
    "aws_access_key_id": told["key"],
    "aws_secret_access_key": told["secret"],
    "endpoint_url": told["endpoint"],
    "region_name": "us-east-1",
}
files = sorted(Path(told["folder"]).iterdir())
batches = [list(found) for _, found in groupby(files, key=lambda path: path.name.partition("-")[0])]
dataset = Path(told["folder"]).name
left = iter(batches)

with tempfile.TemporaryDirectory() as home:
    pipeline = dlt.pipeline(
        "pages",
        pipelines_dir=home,
        dataset_name=dataset,
        destination=dlt.destinations.filesystem(bucket_url=f"s3://{told['bucket']}/dlt", credentials=secrets),
    )

    def load() -> None:
        rows = [
            {"page": path.name, "received_at": datetime.now(UTC), "body": path.read_text()}
            for path in next(left)
        ]
        pipeline.run(rows, table_name="pages", table_format="delta", write_disposition="append")

    spent = costs(load, runs=len(batches) - 1)

options = {
    "AWS_ACCESS_KEY_ID": told["key"],
    "AWS_SECRET_ACCESS_KEY": told["secret"],
    "AWS_ENDPOINT_URL": told["endpoint"],
    "AWS_REGION": "us-east-1",
    "AWS_ALLOW_HTTP": "true",
}
table = DeltaTable(f"s3://{told['bucket']}/dlt/{dataset}/pages", storage_options=options)
pages = table.to_pyarrow_dataset().count_rows()
print(json.dumps({"cpu_s": spent.cpu_s, "pages": pages}))
