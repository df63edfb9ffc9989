"""A mock S3 with a bucket, as a process of its own."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import boto3
import pytest
from botocore.exceptions import BotoCoreError

from spd_ray.base.network import free_port
from tests.waiting import wait_for

REGION = "us-west-2"
CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing",
    "AWS_REGION": REGION,
    "AWS_EC2_METADATA_DISABLED": "true",
}


@contextmanager
def mock_s3(address: str) -> Iterator[str]:
    """The URI of a folder in a bucket of a mock S3 at `address`; this process's environment has its credentials."""
    port = free_port()
    words = [str(Path(sys.executable).with_name("moto_server")), "-H", address, "-p", str(port)]
    with pytest.MonkeyPatch.context() as patch:
        for name, value in CREDENTIALS.items():
            patch.setenv(name, value)
        server = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            client = boto3.client("s3", REGION, endpoint_url=f"http://{address}:{port}")
            assert wait_for(lambda: _made(client))
            yield f"s3://bucket/runs?scheme=http&endpoint_override={address}:{port}&region={REGION}"
        finally:
            server.kill()
            server.wait()


def _made(client: object) -> bool:
    try:
        client.create_bucket(Bucket="bucket", CreateBucketConfiguration={"LocationConstraint": REGION})
    except BotoCoreError:
        return False
    return True
