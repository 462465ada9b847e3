"""Downloads the files of a model from Hugging Face or ModelScope: resumed where they broke off, and verified."""

from __future__ import annotations

import hashlib
import os
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx2
from parastream.model.errors import HubError

_TIMEOUT = httpx2.Timeout(30, connect=10)
_TRIES = 4
"""Attempts in a row that bring no byte, before a download is given up."""
_FIRST_WAIT = 0.5
"""Seconds before the second attempt of these; doubled for each further one."""
_BLOCK = 1 << 20


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file of a model on a hub."""

    name: str
    size: int
    """Bytes."""
    sha256: str | None = None
    git_oid: str | None = None
    """Git's hash of the file, where the hub gives no SHA-256: SHA-1 over a short header and the content."""


class Hub(ABC):
    """A place that models come from; its REST interface."""

    title: str
    _endpoint: str
    _variable: str

    @property
    def endpoint(self) -> str:
        """Base URL; an environment variable can name a mirror."""
        return (os.environ.get(self._variable) or self._endpoint).rstrip("/")

    @abstractmethod
    def list_url(self, model_id: str) -> str:
        """Where the list of a model's files is."""

    @abstractmethod
    def file_url(self, model_id: str, name: str) -> str:
        """Where a file is."""

    @abstractmethod
    def parse(self, listing: Any) -> list[RemoteFile]:
        """The files in a parsed list. Raises KeyError or TypeError for a list in another form."""


class HuggingFace(Hub):
    """huggingface.co or a mirror (`HF_ENDPOINT`)."""

    title = "Hugging Face"
    _endpoint = "https://huggingface.co"
    _variable = "HF_ENDPOINT"

    def list_url(self, model_id: str) -> str:
        return f"{self.endpoint}/api/models/{model_id}/tree/main"

    def file_url(self, model_id: str, name: str) -> str:
        return f"{self.endpoint}/{model_id}/resolve/main/{quote(name)}"

    def parse(self, listing: Any) -> list[RemoteFile]:
        return [
            RemoteFile(entry["path"], entry["lfs"]["size"], sha256=entry["lfs"]["oid"])
            if entry.get("lfs")
            else RemoteFile(entry["path"], entry["size"], git_oid=entry["oid"])
            for entry in listing
            if entry["type"] == "file"
        ]


class ModelScope(Hub):
    """modelscope.cn or a mirror (`MODELSCOPE_ENDPOINT`)."""

    title = "ModelScope"
    _endpoint = "https://www.modelscope.cn"
    _variable = "MODELSCOPE_ENDPOINT"

    def list_url(self, model_id: str) -> str:
        return f"{self.endpoint}/api/v1/models/{model_id}/repo/files?Revision=master&Recursive=true"

    def file_url(self, model_id: str, name: str) -> str:
        return f"{self.endpoint}/api/v1/models/{model_id}/repo?Revision=master&FilePath={quote(name)}"

    def parse(self, listing: Any) -> list[RemoteFile]:
        return [
            RemoteFile(entry["Path"], entry["Size"], sha256=entry.get("Sha256") or None)
            for entry in listing["Data"]["Files"]
            if entry["Type"] == "blob"
        ]


HUBS: dict[str, Hub] = {"hf": HuggingFace(), "ms": ModelScope()}


def download(
    hub: Hub,
    model_id: str,
    choose: Callable[[Sequence[RemoteFile]], Sequence[RemoteFile]],
    directory: Path,
    report: Callable[[int, int], None],
) -> None:
    """Downloads a model's files into a directory, which may hold parts of them from an earlier attempt.

    Args:
        choose: picks the wanted files from those that the hub has; may raise HubError.
        report: is told, again and again, the bytes that are there and the bytes in all.

    Raises:
        HubError: the hub cannot be reached, has no such model, or sends something else than it announced. What
            has arrived stays for the next attempt.
    """
    headers = {"User-Agent": f"parastream/{version('parastream')}", "Accept-Encoding": "identity"}
    with httpx2.Client(follow_redirects=True, timeout=_TIMEOUT, headers=headers) as client:
        wanted = choose(_list(client, hub, model_id))
        names = {file.name for file in wanted}
        for path in directory.iterdir():
            if path.name.removesuffix(".part") not in names:
                path.unlink()  # of an attempt when the hub had other files
        total = sum(file.size for file in wanted)
        for index, file in enumerate(wanted):
            before = sum(earlier.size for earlier in wanted[:index])
            transfer = _Transfer(client, hub, model_id, file, directory)
            for count in transfer.run():
                report(before + count, total)


def _list(client: httpx2.Client, hub: Hub, model_id: str) -> list[RemoteFile]:
    url = hub.list_url(model_id)
    with _readable_errors(hub, model_id):
        response = client.get(url)
        response.raise_for_status()
    try:
        return hub.parse(response.json())
    except (ValueError, KeyError, TypeError, AttributeError):
        raise HubError(f"{hub.title} answered {url} with something other than a list of files") from None


class _TransientError(HubError):
    """The connection broke or the server was busy: worth another attempt."""


@dataclass(frozen=True, slots=True)
class _Transfer:
    """The download of one file."""

    client: httpx2.Client
    hub: Hub
    model_id: str
    file: RemoteFile
    directory: Path

    @property
    def part(self) -> Path:
        return self.directory / f"{self.file.name}.part"

    @property
    def have(self) -> int:
        """Bytes that have arrived."""
        return self.part.stat().st_size if self.part.exists() else 0

    def run(self) -> Iterator[int]:
        """Downloads the file, which has its name only when it is whole and verified; yields the bytes so far."""
        target = self.directory / self.file.name
        if not target.exists() or not _matches(target, self.file):
            resumed = self.have > 0
            yield from self.receive()
            if resumed and not _matches(self.part, self.file):
                # What was there may have been of an older version of the file.
                self.part.unlink()
                yield from self.receive()
            if not _matches(self.part, self.file):
                self.part.unlink()
                raise HubError(
                    f"{self.file.name} of {self.model_id} from {self.hub.title} is damaged:"
                    " its checksum is not the announced one"
                )
            self.part.replace(target)
        yield self.file.size

    def receive(self) -> Iterator[int]:
        """Fills the part up to the file's size, going on after what is there and after broken connections."""
        failures = 0
        self.part.touch()
        while (before := self.have) != self.file.size:
            try:
                with _readable_errors(self.hub, self.model_id):
                    yield from self.receive_some()
            except _TransientError:
                failures = 0 if self.have > before else failures + 1
                if failures == _TRIES:
                    raise
                if failures:
                    time.sleep(_FIRST_WAIT * 2 ** (failures - 1))

    def receive_some(self) -> Iterator[int]:
        """One request for what is missing."""
        url = self.hub.file_url(self.model_id, self.file.name)
        have = self.have if self.have < self.file.size else 0
        headers = {"Range": f"bytes={have}-"} if have else {}
        with self.client.stream("GET", url, headers=headers) as response:
            response.raise_for_status()
            if response.status_code != 206:
                have = 0  # a server that knows no ranges sends everything
            with self.part.open("ab" if have else "wb") as output:
                # As they come: blocks of a fixed size would be collected, and lost when the connection breaks.
                for block in response.iter_bytes():
                    have += len(block)
                    if have > self.file.size:
                        raise HubError(f"{url} is longer than the announced {self.file.size} bytes")
                    output.write(block)
                    yield have
        if have < self.file.size:
            raise _TransientError(f"{url} ended after {have} of {self.file.size} bytes")


def _matches(path: Path, file: RemoteFile) -> bool:
    """Compares the size, and the checksum where the hub has announced one."""
    if path.stat().st_size != file.size:
        return False
    if file.sha256:
        digest = hashlib.sha256()
    elif file.git_oid:
        digest = hashlib.sha1(b"blob %d\0" % file.size, usedforsecurity=False)
    else:
        return True
    with path.open("rb") as content:
        while block := content.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest() == (file.sha256 or file.git_oid)


@contextmanager
def _readable_errors(hub: Hub, model_id: str) -> Iterator[None]:
    try:
        yield
    except httpx2.HTTPStatusError as error:
        status = error.response.status_code
        # Hugging Face answers 401 for models that do not exist.
        if status in (401, 403, 404):
            raise HubError(f"{hub.title} has no public model {model_id} (status {status})") from None
        raise _TransientError(f"{hub.title} answered {error.request.url} with status {status}") from None
    except httpx2.InvalidURL as error:
        raise HubError(f"{hub.title}: {hub.endpoint} is no URL: {error}") from None
    except httpx2.HTTPError as error:
        reason = str(error) or type(error).__name__
        raise _TransientError(f"{hub.title} ({hub.endpoint}) cannot be reached: {reason}") from None
