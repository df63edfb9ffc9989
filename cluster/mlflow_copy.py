"""MLflow's database on a head's disk, and its copy in a bucket: `mlflow_copy.py fetch|keep DATABASE s3://BUCKET/KEY`.

`fetch` puts the bucket's copy in the place of a database that is not there; a bucket without one is fine. `keep` sends
a copy every minute in which the database has changed, by SQLite's own backup: whole, also while MLflow writes.
"""

import sqlite3
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

import boto3
from botocore.exceptions import BotoCoreError, ClientError

SECONDS = 60.0


def fetch(database: Path, bucket: str, key: str) -> None:
    """Download the copy, if there is one and no database."""
    database.parent.mkdir(parents=True, exist_ok=True)
    if database.exists():
        return
    part = database.with_suffix(".part")
    try:
        boto3.client("s3").download_file(bucket, key, str(part))
    except ClientError as error:
        if error.response["Error"]["Code"] not in ("404", "NoSuchKey"):
            raise
    else:
        part.rename(database)


def send(database: Path, bucket: str, key: str) -> None:
    """Upload a copy of the database as it is now."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "copy.db"
        with closing(sqlite3.connect(database)) as source, closing(sqlite3.connect(copy)) as target:
            source.backup(target)
        boto3.client("s3").upload_file(str(copy), bucket, key)


def keep(database: Path, bucket: str, key: str) -> None:
    """Send a copy now and then, without end; a bucket that is away is tried again."""
    sent = None
    while True:
        if database.exists() and (stamp := _stamp(database)) != sent:
            try:
                send(database, bucket, key)
                sent = stamp
            except (BotoCoreError, ClientError, sqlite3.Error) as error:
                print(f"{database} was not copied: {error}", file=sys.stderr, flush=True)
        time.sleep(SECONDS)


def _stamp(database: Path) -> list[tuple[int, int]]:
    """What changes with the database: size and time of it and its log."""
    files = [database, database.with_name(f"{database.name}-wal")]
    return [(file.stat().st_size, file.stat().st_mtime_ns) for file in files if file.exists()]


if __name__ == "__main__":
    what, path, uri = sys.argv[1:]
    place = urlsplit(uri)
    {"fetch": fetch, "keep": keep}[what](Path(path), place.netloc, place.path.lstrip("/"))
