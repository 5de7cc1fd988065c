"""Where the lake's files lie: a folder, or a bucket of S3. A file appears whole or not at all."""

from __future__ import annotations

import os
import re
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import pyarrow.fs

from moderation.errors import ConfigError

SETTING = "SEAWALL_LAKE_URL"

_S3 = re.compile(r"^s3://(?P<bucket>[a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(?P<prefix>(/[^/]+)*)/?$")


class Place(ABC):
    """A flat store of files, by names such as `posts/part-1.parquet`."""

    filesystem: pyarrow.fs.FileSystem | None
    """With which Arrow, and whatever reads through it, opens what `where` says; None: the machine's own."""

    @abstractmethod
    def where(self, name: str) -> str:
        """A file's path in `filesystem`."""

    @abstractmethod
    def names(self, folder: str) -> list[str]:
        """Names of the files in a folder, without it, sorted."""

    @abstractmethod
    def put(self, name: str, content: bytes) -> None:
        """Write a file: after it, and not before, it is there as a whole."""


class Folder(Place):
    """A folder of this machine; made where absent."""

    filesystem = None

    def __init__(self, root: Path) -> None:
        self._root = root

    def where(self, name: str) -> str:
        """Its path."""
        return str(self._root / name)

    def names(self, folder: str) -> list[str]:
        """What is listed; nothing where the folder is absent."""
        return sorted(path.name for path in (self._root / folder).glob("*"))

    def put(self, name: str, content: bytes) -> None:
        """Written beside, then renamed."""
        target = self._root / name
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_suffix(".tmp")
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())  # or a power cut could leave the name without what it stands for
        temporary.rename(target)


class Bucket(Place):
    """A bucket of S3, or of what speaks like it; who may use it, and where it is, boto3's own settings say.

    Those are the `AWS_*` variables, its files and the machine's role; `AWS_ENDPOINT_URL_S3` names another server.

    Args:
        bucket: that exists.
        prefix: of every key, without a slash at either end; may be empty.
    """

    def __init__(self, bucket: str, prefix: str) -> None:
        import boto3  # takes a while, and most lakes are folders
        from botocore.config import Config

        # Path style, because other servers know no host for each bucket.
        config = Config(s3={"addressing_style": "path"}, retries={"mode": "standard", "max_attempts": 5})
        self._client: Any = boto3.client("s3", config=config)
        self._bucket = bucket
        self._prefix = f"{prefix}/" if prefix else ""
        self.filesystem = self._filesystem()

    def _filesystem(self) -> pyarrow.fs.FileSystem:
        # Without credentials of its own: a Ray worker gets it pickled, and finds its own as boto3 does.
        options: dict[str, Any] = {"region": self._client.meta.region_name}
        endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
        if endpoint:
            scheme, _, host = endpoint.rstrip("/").partition("://")
            options |= {"scheme": scheme, "endpoint_override": host}
        return pyarrow.fs.S3FileSystem(**options)

    def where(self, name: str) -> str:
        """Bucket and key."""
        return f"{self._bucket}/{self._prefix}{name}"

    def names(self, folder: str) -> list[str]:
        """What is listed: S3 lists what was put before, at once."""
        prefix = f"{self._prefix}{folder}/"
        pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=prefix)
        keys = [item["Key"] for page in pages for item in page.get("Contents", [])]
        return sorted(key.removeprefix(prefix) for key in keys)

    def put(self, name: str, content: bytes) -> None:
        """One request, which S3 takes whole or not at all."""
        self._client.put_object(Bucket=self._bucket, Key=self._prefix + name, Body=content)


def place_at(url: str) -> Place:
    """The place that a URL names.

    Args:
        url: a folder's path, or `s3://BUCKET/PREFIX`.

    Raises:
        ConfigError: it is neither.
    """
    if "://" not in url:
        return Folder(Path(url))
    match = _S3.match(url)
    if match is None:
        raise ConfigError(SETTING, f"is {url!r}; it must be a folder or s3://BUCKET/PREFIX")
    return Bucket(match["bucket"], match["prefix"].strip("/"))
