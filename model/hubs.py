"""Download the files of a model from Hugging Face or ModelScope: resumed where they broke off, and verified.

Why not `huggingface_hub`? Its 2.4.0 was tried against a server that misbehaves like that of the tests, over plain HTTP
as mirrors speak it. It resumes within one call. After a failure or a killed process, a later call starts from the first
byte (on purpose, see its `_download_to_tmp_and_move`); that would be 880 MB. It also accepts a file of the right size
with another checksum. What its users expect is honoured here: `HF_TOKEN` or the token of `hf auth login`, gated models,
`HF_ENDPOINT`, and models in its cache (`hugging_face`).
"""

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
from parastream.model import hugging_face
from parastream.model.errors import HubError, UnreachableHubError

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
    """A site that models come from, and its REST interface."""

    title: str
    _endpoint: str
    _variable: str

    @property
    def endpoint(self) -> str:
        """Base URL; an environment variable can name a mirror."""
        return (os.environ.get(self._variable) or self._endpoint).rstrip("/")

    @abstractmethod
    def list_url(self, model_id: str) -> str:
        """Return the address of the list of a model's files."""

    @abstractmethod
    def file_url(self, model_id: str, name: str) -> str:
        """Return the address of a file."""

    @abstractmethod
    def parse(self, listing: Any) -> list[RemoteFile]:
        """Return the files in a parsed list.

        Raises:
            KeyError, TypeError: The list has another form.
        """

    def headers(self) -> dict[str, str]:
        """Return the headers that say who asks."""
        return {}

    def explain(self, response: httpx2.Response, model_id: str) -> str:
        """Say why the hub refuses a model, from its answer with status 401, 403 or 404."""
        return f"{self.title} has no public model {model_id} (status {response.status_code})"


class HuggingFace(Hub):
    """huggingface.co or a mirror (`HF_ENDPOINT`), with the user's token where there is one."""

    title = "Hugging Face"
    _endpoint = "https://huggingface.co"
    _variable = "HF_ENDPOINT"

    def headers(self) -> dict[str, str]:
        """Return the user's token. Redirects to another host do not get it: httpx2 drops it."""
        token = hugging_face.token()
        return {"Authorization": f"Bearer {token}"} if token else {}

    def explain(self, response: httpx2.Response, model_id: str) -> str:
        """Tell gated models from absent ones, and say what to do about it."""
        status, token = f"status {response.status_code}", hugging_face.token()
        if response.headers.get("X-Error-Code") == "GatedRepo":
            page = f"{self.endpoint}/{model_id}"
            if token:
                return (
                    f"{self.title} does not let the owner of this token have the gated model {model_id} ({status}):"
                    f" ask for access at {page}"
                )
            return (
                f"{model_id} is a gated model ({status}): accept its conditions at {page}, and set HF_TOKEN to an"
                f" access token from {self.endpoint}/settings/tokens"
            )
        if token:
            # Wrong and expired tokens get 401, even for public models.
            reason = response.headers.get("X-Error-Message") or "no such model, or not for the owner of this token"
            return (
                f"{self.title} refuses {model_id} ({status}): {reason} (a token is set: HF_TOKEN, or `hf auth login`)"
            )
        # Without a token 401 stands for models that do not exist, and for private ones.
        return f"{self.title} has no public model {model_id} ({status})"

    def list_url(self, model_id: str) -> str:
        """See `Hub`."""
        return f"{self.endpoint}/api/models/{model_id}/tree/main"

    def file_url(self, model_id: str, name: str) -> str:
        """See `Hub`."""
        return f"{self.endpoint}/{model_id}/resolve/main/{quote(name)}"

    def parse(self, listing: Any) -> list[RemoteFile]:
        """See `Hub`."""
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
        """See `Hub`."""
        return f"{self.endpoint}/api/v1/models/{model_id}/repo/files?Revision=master&Recursive=true"

    def file_url(self, model_id: str, name: str) -> str:
        """See `Hub`."""
        return f"{self.endpoint}/api/v1/models/{model_id}/repo?Revision=master&FilePath={quote(name)}"

    def parse(self, listing: Any) -> list[RemoteFile]:
        """See `Hub`."""
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
    """Download a model's files into a directory, which may hold parts of them from an earlier attempt.

    Args:
        hub: Where to download from.
        model_id: The model's name there.
        choose: Picks the wanted files from those that the hub has; may raise HubError.
        directory: Where the files go.
        report: Called again and again with the bytes that are there and the bytes in all.

    Raises:
        HubError: The hub cannot be reached, has no such model, does not let this user have it, or sends something else
            than it announced. What has arrived stays for the next attempt.
    """
    headers = {"User-Agent": f"parastream/{version('parastream')}", "Accept-Encoding": "identity"} | hub.headers()
    with httpx2.Client(follow_redirects=True, timeout=_TIMEOUT, headers=headers) as client:
        wanted = choose(_list(client, hub, model_id))
        names = {file.name for file in wanted}
        for path in directory.iterdir():
            if path.name.removesuffix(".part") not in names:
                path.unlink()  # left by an attempt when the hub had other files
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


class _UnreachableError(_TransientError, UnreachableHubError):
    """There was no connection."""


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
        """Number of bytes that have arrived."""
        return self.part.stat().st_size if self.part.exists() else 0

    def run(self) -> Iterator[int]:
        """Download the file, which gets its name only when it is whole and verified; yield the bytes so far."""
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
        """Fill the part up to the file's size, continuing after what is there and after broken connections."""
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
        """Request what is missing, once."""
        url = self.hub.file_url(self.model_id, self.file.name)
        have = self.have if self.have < self.file.size else 0
        headers = {"Range": f"bytes={have}-"} if have else {}
        with self.client.stream("GET", url, headers=headers) as response:
            response.raise_for_status()
            if response.status_code != 206:
                have = 0  # a server without ranges sends everything
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
    """Compare the size, and the checksum where the hub has announced one."""
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
        if status in (401, 403, 404):
            raise HubError(hub.explain(error.response, model_id)) from None
        raise _TransientError(f"{hub.title} answered {error.request.url} with status {status}") from None
    except httpx2.InvalidURL as error:
        raise HubError(f"{hub.title}: {hub.endpoint} is not a URL: {error}") from None
    except httpx2.HTTPError as error:
        reason = str(error) or type(error).__name__
        raise _UnreachableError(f"{hub.title} ({hub.endpoint}) cannot be reached: {reason}") from None
