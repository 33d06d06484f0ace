"""Prefect blocks of this project: the store's credentials, its bucket, the providers' keys.

`python -m deployments.blocks` makes them from the settings, and saves them again under the same names. Runs on workers
of the pool get the keys out of them: the pool's template refers to the blocks (`references`), so that no secret is in a
deployment or a parameter.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from lakehouse.settings import Settings, load_settings
from tasks.limits import has_prefect_server

CREDENTIALS = "mnemo-s3"
BUCKET = "mnemo-lake"


def save(settings: Settings) -> list[str]:
    """Save all blocks that the settings have something for; the names of the settings whose keys are Secret blocks."""
    from prefect.blocks.system import Secret

    _save_store(settings)
    keys = [name for name in sorted(settings.providers) if name.endswith("_API_KEY")]
    for name in keys:
        Secret(value=settings.providers[name]).save(_block_name(name), overwrite=True)
    return keys


def references(keys: Iterable[str]) -> Mapping[str, str]:
    """Variables of a run's environment as references to Secret blocks, which workers resolve when they start it."""
    return {name: f"{{{{ prefect.blocks.secret.{_block_name(name)} }}}}" for name in keys}


def _save_store(settings: Settings) -> None:
    from prefect_aws import AwsCredentials, MinIOCredentials, S3Bucket
    from prefect_aws.client_parameters import AwsClientParameters

    from lakehouse.store import open_store

    if not settings.is_s3:
        return
    found = open_store(settings).settings
    if found.s3_endpoint:
        credentials = MinIOCredentials(
            minio_root_user=found.s3_access_key,
            minio_root_password=found.s3_secret_key,
            region_name=found.s3_region,
            aws_client_parameters=AwsClientParameters(endpoint_url=found.s3_endpoint),
        )
    else:
        credentials = AwsCredentials(
            aws_access_key_id=found.s3_access_key,
            aws_secret_access_key=found.s3_secret_key,
            region_name=found.s3_region,
        )
    credentials.save(CREDENTIALS, overwrite=True)
    bucket, _, prefix = found.lake.removeprefix("s3://").partition("/")
    S3Bucket(bucket_name=bucket, bucket_folder=prefix, credentials=credentials).save(BUCKET, overwrite=True)


def _block_name(setting: str) -> str:
    """`MNEMO_FRED_API_KEY` is kept in `mnemo-fred-api-key`."""
    return setting.lower().replace("_", "-")


if __name__ == "__main__":
    if not has_prefect_server():
        raise SystemExit("no Prefect server is named: set PREFECT_API_URL")
    save(load_settings())
