"""Run by the Python of Spark: reads Delta tables on S3 and writes what it sees as Parquet, a folder a table.

Standard input: JSON with `tables` (name -> s3a address), `into` (a folder), `jars`, `endpoint` and the two keys.
"""

import json
import sys

from pyspark.sql import SparkSession

asked = json.load(sys.stdin)
said = {
    "spark.jars": ",".join(asked["jars"]),
    "spark.master": "local[2]",
    "spark.ui.enabled": "false",
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.driver.host": "127.0.0.1",
    "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
    "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.shuffle.partitions": "2",
    "spark.sql.parquet.outputTimestampType": "TIMESTAMP_MICROS",
    "spark.hadoop.fs.s3a.endpoint": asked["endpoint"],
    "spark.hadoop.fs.s3a.access.key": asked["access_key"],
    "spark.hadoop.fs.s3a.secret.key": asked["secret_key"],
    "spark.hadoop.fs.s3a.path.style.access": "true",
    "spark.hadoop.fs.s3a.connection.ssl.enabled": "false",
}
builder = SparkSession.builder.appName("mnemo readers")
for name, value in said.items():
    builder = builder.config(name, value)
spark = builder.getOrCreate()
for name, address in asked["tables"].items():
    spark.read.format("delta").load(address).write.parquet(f"{asked['into']}/{name}")
sys.stderr.write(f"Spark {spark.version} read {len(asked['tables'])} tables\n")
spark.stop()
