"""A storage that speaks S3, for the tests of the replica."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import boto3
from moto.server import ThreadedMotoServer

KEYS = {"REPLICA_ACCESS_KEY_ID": "tests", "REPLICA_SECRET_ACCESS_KEY": "tests-secret"}
BUCKET = "replicas"


class Storage:
    """With one empty bucket. Stopped and started it has what it had."""

    def __init__(self, address: str, port: int) -> None:
        self.address, self.port = address, port
        self.url = f"http://{address}:{port}"
        self.server = ThreadedMotoServer(ip_address=address, port=port)

    def client(self) -> object:
        return boto3.client(
            "s3",
            endpoint_url=self.url,
            region_name="us-east-1",
            aws_access_key_id=KEYS["REPLICA_ACCESS_KEY_ID"],
            aws_secret_access_key=KEYS["REPLICA_SECRET_ACCESS_KEY"],
        )

    def names(self) -> list[str]:
        found = self.client().list_objects_v2(Bucket=BUCKET)  # type: ignore[attr-defined]
        return [each["Key"] for each in found.get("Contents", [])]


@contextlib.contextmanager
def new_storage(address: str, port: int) -> Iterator[Storage]:
    made = Storage(address, port)
    made.server.start()
    try:
        made.client().create_bucket(Bucket=BUCKET)  # type: ignore[attr-defined]
        yield made
    finally:
        made.server.stop()
