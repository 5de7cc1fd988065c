"""Where the lake's files and the media lie: a folder, or a bucket of S3. A file appears whole or not at all."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import stat
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any  # Any: boto3 makes its clients when it runs

import pyarrow.fs

from moderation.errors import ConfigError

if TYPE_CHECKING:
    from botocore.exceptions import ClientError

SETTING = "SEAWALL_LAKE_URL"

_S3 = re.compile(r"^s3://(?P<bucket>[a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(?P<prefix>(/[^/]+)*)/?$")


_PARTIAL = ".partial"
"""Folder of files that are being written; a process that is killed leaves its own there."""


@dataclass(frozen=True, slots=True)
class Stored:
    """A file of a place.

    Attributes:
        name: of the file.
        size: bytes.
        modified: when it was written or touched, by the clock of who keeps it.
    """

    name: str
    size: int
    modified: datetime


class Place(ABC):
    """A flat store of files, by names such as `posts/part-1.parquet`."""

    @property
    @abstractmethod
    def filesystem(self) -> pyarrow.fs.FileSystem | None:
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

    @abstractmethod
    def put_file(self, name: str, path: Path) -> None:
        """The same with a local file's content, which is never held in memory as a whole."""

    @abstractmethod
    def fetch(self, name: str) -> AbstractContextManager[Path]:
        """A file as a local one, to be read and left as it is, and only within the context.

        Raises:
            FileNotFoundError: there is none.
        """

    @abstractmethod
    def look(self, name: str) -> Stored | None:
        """What is known of a file without reading it; None: there is none."""

    @abstractmethod
    def listing(self, folder: str = "") -> Iterator[Stored]:
        """The files of a folder, or of the whole place, with their whole names, in no order."""

    @abstractmethod
    def touch(self, name: str) -> bool:
        """Make a file as new as if it were written now; False: there is none."""

    @abstractmethod
    def move(self, name: str, to: str) -> bool:
        """Give a file another name, under which it is new; False: there is none.

        It is never without both names, though for a while it may have both.
        """

    @abstractmethod
    def delete(self, name: str) -> None:
        """Delete a file, if it is there."""

    @abstractmethod
    def clear_partial(self, before: datetime) -> int:
        """Delete what was begun before a time and never completed: its writer was killed. How many there were."""

    def has(self, name: str) -> bool:
        """Whether there is such a file."""
        return self.look(name) is not None


class Folder(Place):
    """A folder of this machine; made where absent."""

    def __init__(self, root: Path) -> None:
        self._root = root

    @property
    def filesystem(self) -> None:
        """The machine's own."""
        return None

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

    def put_file(self, name: str, path: Path) -> None:
        """Copied beside, then renamed. A power cut after it takes neither the content nor the name."""
        target = self._root / name
        for folder in (target.parent, self._root / _PARTIAL):
            folder.mkdir(parents=True, exist_ok=True)
        temporary = self._root / _PARTIAL / secrets.token_hex(16)
        try:
            shutil.copyfile(path, temporary)
            _sync(temporary)
            temporary.rename(target)
        finally:
            temporary.unlink(missing_ok=True)
        _sync(target.parent)
        _sync(self._root)

    @contextmanager
    def fetch(self, name: str) -> Iterator[Path]:
        """The file itself."""
        path = self._root / name
        if not path.is_file():
            raise FileNotFoundError(path)
        yield path

    def look(self, name: str) -> Stored | None:
        """As the file system says."""
        return self._stored(self._root / name)

    def listing(self, folder: str = "") -> Iterator[Stored]:
        """What is listed; nothing where the folder is absent."""
        found = (self._stored(path) for path in (self._root / folder).glob("*" if folder else "**/*"))
        return (stored for stored in found if stored is not None)

    def _stored(self, path: Path) -> Stored | None:
        try:
            status = path.stat()
        except FileNotFoundError:
            return None
        if not stat.S_ISREG(status.st_mode):
            return None
        when = datetime.fromtimestamp(status.st_mtime, UTC)
        return Stored(path.relative_to(self._root).as_posix(), status.st_size, when)

    def touch(self, name: str) -> bool:
        """Its time of modification."""
        try:
            os.utime(self._root / name)
        except FileNotFoundError:
            return False
        return True

    def move(self, name: str, to: str) -> bool:
        """A rename. Touched before, as it must be new from the moment at which it has its other name."""
        target = self._root / to
        target.parent.mkdir(parents=True, exist_ok=True)
        if not self.touch(name):
            return False
        try:
            (self._root / name).rename(target)
        except FileNotFoundError:
            return False
        _sync(target.parent)
        return True

    def delete(self, name: str) -> None:
        """Unlinked."""
        (self._root / name).unlink(missing_ok=True)

    def clear_partial(self, before: datetime) -> int:
        """Of `.partial`."""
        old = [stored.name for stored in self.listing(_PARTIAL) if stored.modified < before]
        for name in old:
            self.delete(name)
        return len(old)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


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

    @cached_property
    def filesystem(self) -> pyarrow.fs.FileSystem:
        """Arrow's own client, made when it is first asked for."""
        # Without credentials of its own: a Ray worker gets it pickled, and finds its own as boto3 does.
        options: dict[str, str] = {"region": self._client.meta.region_name}
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

    def put_file(self, name: str, path: Path) -> None:
        """One request, or, of a large file, one for each of its pieces, which S3 puts together at the end."""
        self._client.upload_file(str(path), self._bucket, self._prefix + name)

    @contextmanager
    def fetch(self, name: str) -> Iterator[Path]:
        """Downloaded into a scratch folder, which goes with the context."""
        with tempfile.TemporaryDirectory(prefix="seawall-") as scratch:
            path = Path(scratch) / "file"
            try:
                self._client.download_file(self._bucket, self._prefix + name, str(path))
            except self._client.exceptions.ClientError as error:
                if _missing(error):
                    raise FileNotFoundError(self.where(name)) from error
                raise
            yield path

    def look(self, name: str) -> Stored | None:
        """As S3 says; its times are whole seconds."""
        try:
            head = self._client.head_object(Bucket=self._bucket, Key=self._prefix + name)
        except self._client.exceptions.ClientError as error:
            if _missing(error):
                return None
            raise
        return Stored(name, head["ContentLength"], head["LastModified"])

    def listing(self, folder: str = "") -> Iterator[Stored]:
        """What is listed, a page of 1,000 at a time."""
        prefix = f"{self._prefix}{folder}/" if folder else self._prefix
        pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=prefix)
        for page in pages:
            for item in page.get("Contents", []):
                yield Stored(item["Key"].removeprefix(self._prefix), item["Size"], item["LastModified"])

    def touch(self, name: str) -> bool:
        """Copied onto itself, within S3; it takes that where the metadata are told anew."""
        return self._copy(name, name, MetadataDirective="REPLACE")

    def move(self, name: str, to: str) -> bool:
        """Copied, within S3, then deleted."""
        if not self._copy(name, to):
            return False
        self.delete(name)
        return True

    def _copy(self, name: str, to: str, **options: str) -> bool:
        source = {"Bucket": self._bucket, "Key": self._prefix + name}
        try:
            self._client.copy_object(Bucket=self._bucket, Key=self._prefix + to, CopySource=source, **options)
        except self._client.exceptions.ClientError as error:
            if _missing(error):
                return False
            raise
        return True

    def delete(self, name: str) -> None:
        """S3 deletes what is not there as well."""
        self._client.delete_object(Bucket=self._bucket, Key=self._prefix + name)

    def clear_partial(self, before: datetime) -> int:
        """Uploads in pieces that were never put together: S3 keeps, and charges, their pieces for ever."""
        pages = self._client.get_paginator("list_multipart_uploads").paginate(Bucket=self._bucket, Prefix=self._prefix)
        uploads = [item for page in pages for item in page.get("Uploads", []) if item["Initiated"] < before]
        for item in uploads:
            self._client.abort_multipart_upload(Bucket=self._bucket, Key=item["Key"], UploadId=item["UploadId"])
        return len(uploads)


def _missing(error: ClientError) -> bool:
    # A HEAD's answer has no body: there, and only there, a bucket that is missing looks like a file that is.
    return error.response.get("Error", {}).get("Code") in ("404", "NoSuchKey")


def place_at(url: str, *, setting: str = SETTING) -> Place:
    """The place that a URL names.

    Args:
        url: a folder's path, or `s3://BUCKET/PREFIX`.
        setting: where it comes from, for the error.

    Raises:
        ConfigError: it is neither.
    """
    if "://" not in url:
        return Folder(Path(url))
    match = _S3.match(url)
    if match is None:
        raise ConfigError(setting, f"is {url!r}; it must be a folder or s3://BUCKET/PREFIX")
    return Bucket(match["bucket"], match["prefix"].strip("/"))
