"""dlt: trades merged (upsert by instrument and trade id) into one Delta table on the S3 server that is told."""

import json
import os
import sys
import tempfile

import dlt
import pyarrow.parquet as pq
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
batches = [pq.read_table(file) for file in told["files"]]
left = iter(batches)

with tempfile.TemporaryDirectory() as home:
    pipeline = dlt.pipeline(
        "trades",
        pipelines_dir=home,
        dataset_name="trades",
        destination=dlt.destinations.filesystem(bucket_url=f"s3://{told['bucket']}/dlt", credentials=secrets),
    )

    def merge() -> None:
        resource = dlt.resource(
            next(left),
            name="trades",
            primary_key=("instrument_id", "trade_id"),
            write_disposition={"disposition": "merge", "strategy": "upsert"},
            table_format="delta",
        )
        pipeline.run(resource)

    spent = costs(merge, runs=len(batches) - 1)

options = {
    "AWS_ACCESS_KEY_ID": told["key"],
    "AWS_SECRET_ACCESS_KEY": told["secret"],
    "AWS_ENDPOINT_URL": told["endpoint"],
    "AWS_REGION": "us-east-1",
    "AWS_ALLOW_HTTP": "true",
}
table = DeltaTable(f"s3://{told['bucket']}/dlt/trades/trades", storage_options=options)
print(json.dumps({"cpu_s": spent.cpu_s, "rows": table.to_pyarrow_dataset().count_rows()}))
