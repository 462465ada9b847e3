"""Models by name: from a real HTTP server that behaves like Hugging Face and ModelScope, and misbehaves on demand."""

from __future__ import annotations

import hashlib
import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from parastream.model import catalogue, hubs, load
from parastream.model.errors import HubError

from tests.waiting import wait_until

WEIGHTS = random.Random(1).randbytes(400_000)
SPEECH = {
    "README.md": b"# A model",
    "am.mvn": b"<Nnet>",
    "config.yaml": b"model: Paraformer\n",
    "configuration.json": b"{}",
    "model.pt": WEIGHTS,
    "seg_dict": b"word pieces\n",
    "tokens.json": b'["<blank>"]',
}
WANTED = sorted(SPEECH.keys() - {"README.md"})


class FakeHub(ThreadingHTTPServer):
    """Both hubs at once: their lists of files, downloads with ranges, and Hugging Face's redirect of large files."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.models: dict[str, dict[str, bytes]] = {}
        self.listed: dict[str, bytes] = {}
        """Contents that the lists of files announce, where they differ from what is sent."""
        self.break_after: list[int] = []
        """Bytes of weights after which the next connections break."""
        self.ranges = True
        self.garbage = False
        self.stall = threading.Event()
        """Sending of weights stops half way until this is set."""
        self.stall.set()
        self.requests: list[tuple[str, str | None]] = []
        self.tokens: list[tuple[str, str | None]] = []
        """The path and the header Authorization of each request."""
        self.gated = ""
        """The token without which files are refused, as Hugging Face does for gated models."""
        self.granted = True
        """Whether that token's owner may have them."""
        self.cdn = ""
        """Where large files are, if on another host."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def asked_for(self, part: str) -> list[str | None]:
        """The ranges of all requests whose URL has a part."""
        return [wanted for path, wanted in self.requests if part in path]

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that vanish are part of the tests."""


class Handler(BaseHTTPRequestHandler):
    server: FakeHub

    def do_GET(self) -> None:
        self.server.requests.append((self.path, self.headers["Range"]))
        self.server.tokens.append((self.path, self.headers["Authorization"]))
        url = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        if match := re.fullmatch(r"/api/models/([^/]+/[^/]+)/tree/main", url.path):
            self.list(match[1], self.as_hugging_face)
        elif match := re.fullmatch(r"/([^/]+/[^/]+)/resolve/main/(.+)", url.path):
            if self.server.gated and not self.may_have():
                return
            if len(self.server.models[match[1]][match[2]]) > 1000:
                self.send_response(302)
                self.send_header("Location", f"{self.server.cdn}/cdn/{match[1]}/{match[2]}?signature=1")
                self.send_header("Content-Length", "0")
                self.end_headers()
            else:
                self.file(match[1], match[2])
        elif match := re.fullmatch(r"/cdn/([^/]+/[^/]+)/(.+)", url.path):
            self.file(match[1], match[2])
        elif match := re.fullmatch(r"/api/v1/models/([^/]+/[^/]+)/repo/files", url.path):
            assert query == {"Revision": "master", "Recursive": "true"}
            self.list(match[1], self.as_model_scope)
        elif match := re.fullmatch(r"/api/v1/models/([^/]+/[^/]+)/repo", url.path):
            assert query["Revision"] == "master"
            self.file(match[1], query["FilePath"])
        else:
            self.send_error(404)

    def may_have(self) -> bool:
        """Refuse a gated model as Hugging Face does, unless the right token is sent."""
        right = self.headers["Authorization"] == f"Bearer {self.server.gated}"
        if right and self.server.granted:
            return True
        wrong = self.headers["Authorization"] and not right
        self.send_response(403 if right else 401)
        self.send_header(
            "X-Error-Message" if wrong else "X-Error-Code", "Invalid credentials" if wrong else "GatedRepo"
        )
        self.send_header("Content-Length", "0")
        self.end_headers()
        return False

    def list(self, model_id: str, form: Any) -> None:
        if model_id not in self.server.models:
            self.send_error(404)
            return
        files = self.server.models[model_id] | self.server.listed
        body = b"<html>" if self.server.garbage else json.dumps(form(files)).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def as_hugging_face(self, files: dict[str, bytes]) -> Any:
        entries: list[dict[str, Any]] = [{"type": "directory", "path": "example", "size": 0, "oid": "0" * 40}]
        for name, content in files.items():
            entry: dict[str, Any] = {"type": "file", "path": name, "size": len(content)}
            if len(content) > 1000:
                sha256 = hashlib.sha256(content).hexdigest()
                entry |= {"oid": "1" * 40, "lfs": {"oid": sha256, "size": len(content), "pointerSize": 134}}
            else:
                entry["oid"] = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
            entries.append(entry)
        return entries

    def as_model_scope(self, files: dict[str, bytes]) -> Any:
        entries: list[dict[str, Any]] = [{"Type": "tree", "Path": "example", "Size": 0}]
        entries += (
            {
                "Type": "blob",
                "Path": name,
                "Size": len(content),
                "Sha256": hashlib.sha256(content).hexdigest(),
            }
            for name, content in files.items()
        )
        return {"Code": 200, "Data": {"Files": entries}, "Success": True}

    def file(self, model_id: str, name: str) -> None:
        content = self.server.models[model_id][name]
        begin = 0
        if self.server.ranges and self.headers["Range"]:
            begin = int(self.headers["Range"].removeprefix("bytes=").removesuffix("-"))
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {begin}-{len(content) - 1}/{len(content)}")
        else:
            self.send_response(200)
        self.send_header("Content-Length", str(len(content) - begin))
        self.end_headers()
        body = content[begin:]
        if len(content) > 1000:
            if self.server.break_after:
                self.wfile.write(body[: self.server.break_after.pop(0)])
                return
            self.wfile.write(body[: len(body) // 2])
            self.server.stall.wait()
            body = body[len(body) // 2 :]
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Keeps stderr clean."""


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FakeHub]:
    """A hub with one model, which stands for both hubs, and an empty cache."""
    with FakeHub() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        server.models["org/speech"] = dict(SPEECH)
        for variable in ("PARASTREAM_HUB", "PARASTREAM_OFFLINE", "HF_TOKEN", "HF_TOKEN_PATH", "HF_HUB_CACHE"):
            monkeypatch.delenv(variable, raising=False)
        monkeypatch.setenv("PARASTREAM_CACHE", str(tmp_path / "cache"))
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        monkeypatch.setenv("HF_HOME", str(tmp_path / "huggingface"))
        monkeypatch.setenv("MODELSCOPE_ENDPOINT", server.url + "/")
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        monkeypatch.setattr(hubs, "_FIRST_WAIT", 0.001)
        yield server
        server.stall.set()
        server.shutdown()
        thread.join()


def unused_url() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}"


def files(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def wanted_speech() -> dict[str, bytes]:
    return {name: SPEECH[name] for name in WANTED}


@pytest.mark.parametrize("name", ["", "default", "asr-small-en", "punc-small-offline", "punc-small-realtime"])
def test_embedded_models(name: str) -> None:
    directory = catalogue.resolve(name, offline=True)
    assert directory.name == ("asr-small-en" if name in ("", "default") else name)
    assert {"README.md", "config.yaml", "configuration.json", "tokens.json"} < {
        path.name for path in directory.iterdir()
    }


WHISPER = {
    "README.md": b"about",
    "config.json": b"{}",
    "generation_config.json": b"{ }",
    "model.safetensors": b"weights",
    "pytorch_model.bin": b"other weights",
    "tokenizer.json": b"a vocabulary",
    "vocab.json": b"the vocabulary",
}


def test_a_whisper_model_comes_with_its_vocabulary_and_one_file_of_weights(fake: FakeHub) -> None:
    fake.models["org/whisper"] = dict(WHISPER)
    wanted = ("config.json", "generation_config.json", "vocab.json", "model.safetensors")
    assert files(catalogue.resolve("org/whisper")) == {name: WHISPER[name] for name in wanted}
    fake.models["org/mlx"] = {"config.json": b"{}", "weights.npz": b"weights"}
    assert files(catalogue.resolve("org/mlx")) == fake.models["org/mlx"]
    fake.models["org/torch"] = {"config.json": b"{}", "pytorch_model.bin": b"weights"}
    with pytest.raises(HubError, match=r"has neither weights\.safetensors nor model\.safetensors nor weights\.npz"):
        catalogue.resolve("org/torch")


def test_a_sensevoice_model_comes_with_its_pieces(fake: FakeHub) -> None:
    content = {name: SPEECH[name] for name in ("am.mvn", "config.yaml", "configuration.json", "model.pt")}
    content |= {"chn.bpe.model": b"pieces", "example/other.bpe.model": b"of an example", "README.md": b"about"}
    fake.models["FunAudioLLM/SenseVoiceSmall"] = dict(content)
    wanted = content.keys() - {"example/other.bpe.model", "README.md"}
    assert files(catalogue.resolve("sensevoice-small")) == {name: content[name] for name in wanted}
    fake.models["org/no-pieces"] = {name: content[name] for name in wanted - {"chn.bpe.model"}}
    with pytest.raises(HubError, match=r"it has no tokens\.json"):
        catalogue.resolve("org/no-pieces")


def test_the_embedded_whisper() -> None:
    directory = catalogue.resolve("whisper-tiny-en", offline=True)
    wanted = {"README.md", "config.json", "model.safetensors", "silence.npy", "vocabulary.txt"}
    assert {path.name for path in directory.iterdir()} == wanted


def test_directories(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert catalogue.resolve(tmp_path) == tmp_path
    (tmp_path / "org" / "mine").mkdir(parents=True)
    (tmp_path / "asr-small-en").mkdir()
    monkeypatch.chdir(tmp_path)
    assert catalogue.resolve("org/mine") == Path("org/mine")
    assert catalogue.resolve("asr-small-en").is_absolute(), "names go before directories"
    assert catalogue.resolve("./asr-small-en") == Path("asr-small-en")


@pytest.mark.parametrize(
    "name", ["paraformer", "/no/such/directory", "./no-model", "a/b/c", "../a", "a/..", "xx:a/b", "a b/c", "\0"]
)
def test_unknown_names(name: str) -> None:
    with pytest.raises(HubError) as caught:
        catalogue.resolve(name)
    assert str(caught.value) == (
        f"no model {name!r}: allowed are asr-small-en, whisper-tiny-en, punc-small-offline, punc-small-realtime,"
        " lm-small-en, paraformer-zh-streaming, paraformer-zh, paraformer-zh-seaco, sensevoice-small, whisper-small,"
        " whisper-large-v3-turbo, ct-punc, ct-punc-realtime, a directory that exists, or a hub id such as"
        " funasr/paraformer-zh"
    )


def test_list_of_models(fake: FakeHub) -> None:
    cards = {card.name: card for card in catalogue.list_models()}
    assert cards["asr-small-en"].cached
    assert cards["asr-small-en"].source == "embedded"
    assert cards["paraformer-zh"].source == (
        "hf:funasr/paraformer-zh, ms:iic/speech_paraformer-large_asr_nat-zh-cn-16k-common-vocab8404-pytorch"
    )
    assert not cards["paraformer-zh"].cached
    fake.models["funasr/paraformer-zh"] = dict(SPEECH)
    catalogue.resolve("paraformer-zh")
    assert [card.name for card in catalogue.list_models() if card.cached and card.source != "embedded"] == [
        "paraformer-zh"
    ]


@pytest.mark.parametrize(("preferred", "kept"), [("hf", "hf"), ("ms", "ms"), (None, "hf")])
def test_a_download_is_complete_and_kept(
    fake: FakeHub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, preferred: str | None, kept: str
) -> None:
    if preferred:
        monkeypatch.setenv("PARASTREAM_HUB", preferred)
    directory = catalogue.resolve("org/speech")
    assert directory == tmp_path / "cache" / "models" / kept / "org" / "speech"
    assert files(directory) == wanted_speech()
    assert not any("README" in path for path, _ in fake.requests)
    fake.requests.clear()
    for offline in (False, True):
        assert catalogue.resolve("org/speech", offline=offline) == directory
    monkeypatch.setenv("PARASTREAM_HUB", "ms")
    assert catalogue.resolve("org/speech") == directory, "what the other hub gave is as good"
    assert fake.requests == []


def test_a_hub_can_be_chosen_by_prefix(fake: FakeHub, tmp_path: Path) -> None:
    assert catalogue.resolve("ms:org/speech") == tmp_path / "cache" / "models" / "ms" / "org" / "speech"
    assert catalogue.resolve("hf:org/speech") == tmp_path / "cache" / "models" / "hf" / "org" / "speech"


def test_weights_that_we_can_read_and_only_one_form_of_them(fake: FakeHub) -> None:
    fake.models["org/both"] = SPEECH | {"model.safetensors": b"tensors", "model.onnx": b"graph"}
    assert sorted(files(catalogue.resolve("org/both"))) == sorted({*WANTED, "model.safetensors"} - {"model.pt"})
    punctuation = {"config.yaml": b"c", "tokens.json": b"t", "model.onnx": b"full", "model_quant.onnx": b"int8"}
    fake.models["org/punctuation"] = punctuation | {"model.pt": WEIGHTS}
    assert sorted(files(catalogue.resolve("org/punctuation"))) == ["config.yaml", "model_quant.onnx", "tokens.json"]
    fake.models["org/torch"] = {"config.yaml": b"c", "tokens.json": b"t", "model.pt": WEIGHTS}
    with pytest.raises(HubError, match=r"has neither model_quant\.onnx nor model\.onnx"):
        catalogue.resolve("org/torch")
    fake.models["org/empty"] = {}
    with pytest.raises(HubError, match=r"it has no config\.yaml and no tokens\.json"):
        catalogue.resolve("org/empty")


def test_the_other_hub_is_tried(fake: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", unused_url())
    directory = catalogue.resolve("org/speech")
    assert directory.parts[-3:] == ("ms", "org", "speech")
    assert files(directory) == wanted_speech()


def test_neither_hub_can_be_used(fake: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(HubError) as caught:
        catalogue.resolve("org/none")
    assert str(caught.value) == (
        "cannot download org/none: Hugging Face has no public model org/none (status 404);"
        " ModelScope has no public model org/none (status 404)"
    )
    for endpoint in (unused_url(), "nonsense", "http://[", "ftp://127.0.0.1"):
        monkeypatch.setenv("HF_ENDPOINT", endpoint)
        with pytest.raises(HubError, match=r"cannot download hf:org/speech.*: Hugging Face.*" + re.escape(endpoint)):
            catalogue.resolve("hf:org/speech")
    fake.garbage = True
    with pytest.raises(HubError, match="something other than a list of files"):
        catalogue.resolve("ms:org/speech")
    monkeypatch.setenv("PARASTREAM_HUB", "github")
    with pytest.raises(HubError, match=r"PARASTREAM_HUB is 'github'; allowed are hf .* and ms"):
        catalogue.resolve("org/speech")


def shared(cache: Path, content: dict[str, bytes], commit: str = "0a1b2c") -> Path:
    """A model in the cache of Hugging Face's own programs, as they lay it out."""
    repository = cache / "models--org--speech"
    snapshot = repository / "snapshots" / commit
    for directory in (snapshot, repository / "blobs", repository / "refs"):
        directory.mkdir(parents=True)
    (repository / "refs" / "main").write_text(commit)
    for name, data in content.items():
        blob = repository / "blobs" / hashlib.sha256(data).hexdigest()
        blob.write_bytes(data)
        (snapshot / name).symlink_to(Path("..", "..", "blobs", blob.name))
    return snapshot


@pytest.mark.parametrize("variable", ["HF_HOME", "HF_HUB_CACHE"])
def test_what_hugging_faces_own_programs_have_downloaded_is_used(
    fake: FakeHub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, variable: str
) -> None:
    cache = tmp_path / "huggingface" / "hub"
    if variable == "HF_HUB_CACHE":
        cache = tmp_path / "elsewhere"
        monkeypatch.setenv(variable, str(cache))
    snapshot = shared(cache, wanted_speech())
    for offline in (True, False):
        assert catalogue.resolve("hf:org/speech", offline=offline) == snapshot
    assert fake.requests == []
    with pytest.raises(HubError, match="not in the cache"):
        catalogue.resolve("ms:org/speech", offline=True)


@pytest.mark.parametrize("missing", ["config.yaml", "tokens.json", "am.mvn", "model.pt"])
def test_what_they_have_downloaded_in_part_is_not_used(fake: FakeHub, tmp_path: Path, missing: str) -> None:
    content = {name: data for name, data in wanted_speech().items() if name != missing}
    shared(tmp_path / "huggingface" / "hub", content)
    directory = catalogue.resolve("hf:org/speech")
    assert directory == tmp_path / "cache" / "models" / "hf" / "org" / "speech"
    assert files(directory) == wanted_speech()


def test_a_model_in_their_cache_has_the_name_of_its_repository(fake: FakeHub, tmp_path: Path) -> None:
    embedded = catalogue.resolve("asr-small-en")
    content = {path.name: path.read_bytes() for path in embedded.iterdir()}
    shared(tmp_path / "huggingface" / "hub", content)
    assert load("hf:org/speech", offline=True).name == "speech"
    assert load(embedded).name == "asr-small-en"


def test_offline(fake: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(HubError, match=r"is not in the cache .* run `parastream models download org/speech`"):
        catalogue.resolve("org/speech", offline=True)
    monkeypatch.setenv("PARASTREAM_OFFLINE", "1")
    with pytest.raises(HubError, match="offline"):
        catalogue.resolve("paraformer-zh-streaming")
    assert fake.requests == []


@pytest.mark.parametrize("source", ["hf", "ms"])
def test_a_broken_connection_is_resumed(fake: FakeHub, source: str) -> None:
    fake.break_after = [100_000, 50_000, 0, 1]
    directory = catalogue.resolve(f"{source}:org/speech")
    assert files(directory) == wanted_speech()
    asked = fake.asked_for("/cdn/" if source == "hf" else "FilePath=model.pt")
    assert asked == [None, "bytes=100000-", "bytes=150000-", "bytes=150000-", "bytes=150001-"]


def test_a_download_that_is_given_up_goes_on_the_next_time(fake: FakeHub, tmp_path: Path) -> None:
    fake.break_after = [100_000, 0, 0, 0, 0]
    with pytest.raises(HubError, match=r"Hugging Face \(http.*\) cannot be reached: "):
        catalogue.resolve("hf:org/speech")
    assert not (tmp_path / "cache" / "models").exists()
    assert not any(card.cached for card in catalogue.list_models() if card.source != "embedded")
    fake.requests.clear()
    directory = catalogue.resolve("hf:org/speech")
    assert files(directory) == wanted_speech()
    assert fake.asked_for("/cdn/") == ["bytes=100000-"]
    assert not fake.asked_for("tokens.json"), "what was complete is not fetched again"


def test_a_server_without_ranges(fake: FakeHub) -> None:
    fake.ranges = False
    fake.break_after = [100_000]
    assert files(catalogue.resolve("org/speech")) == wanted_speech()


def test_a_model_that_changed_in_between_is_not_mixed(fake: FakeHub) -> None:
    fake.break_after = [100_000, 0, 0, 0, 0]
    with pytest.raises(HubError):
        catalogue.resolve("hf:org/speech")
    new = {"tokens.json": b'["<unk>"]', "model.pt": bytes(400_000)}
    fake.models["org/speech"] |= new
    del fake.models["org/speech"]["seg_dict"]
    directory = catalogue.resolve("hf:org/speech")
    assert files(directory) == {name: data for name, data in (SPEECH | new).items() if name in WANTED[:-2]} | new


@pytest.mark.parametrize(
    ("sent", "message"),
    [
        (WEIGHTS[:-1] + b"\0", r"model\.pt of org/speech from Hugging Face is damaged"),
        (WEIGHTS[:-1], "ended after 399999 of 400000 bytes"),
        (WEIGHTS + b"\0", "longer than the announced 400000 bytes"),
    ],
)
def test_other_content_than_announced(fake: FakeHub, tmp_path: Path, sent: bytes, message: str) -> None:
    fake.listed = {"model.pt": WEIGHTS}
    fake.models["org/speech"]["model.pt"] = sent
    with pytest.raises(HubError, match=message):
        catalogue.resolve("hf:org/speech")
    assert not (tmp_path / "cache" / "models").exists()
    fake.models["org/speech"]["model.pt"] = WEIGHTS
    assert files(catalogue.resolve("hf:org/speech")) == wanted_speech()


def test_a_small_file_is_verified_too(fake: FakeHub) -> None:
    fake.listed = {"am.mvn": b"<nnet>"}
    with pytest.raises(HubError, match=r"am\.mvn of org/speech from Hugging Face is damaged.*; am\.mvn .* ModelScope"):
        catalogue.resolve("org/speech")


def test_a_gated_model_asks_for_a_token(fake: FakeHub) -> None:
    fake.gated = "hf_right"
    with pytest.raises(HubError) as caught:
        catalogue.resolve("hf:org/speech")
    assert str(caught.value) == (
        "cannot download hf:org/speech: org/speech is a gated model (status 401): accept its conditions at"
        f" {fake.url}/org/speech, and set HF_TOKEN to an access token from {fake.url}/settings/tokens"
    )


def test_a_token_whose_owner_may_not_have_the_model(fake: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    fake.gated, fake.granted = "hf_right", False
    monkeypatch.setenv("HF_TOKEN", "hf_right")
    with pytest.raises(HubError, match=r"gated model org/speech \(status 403\): ask for access at .*/org/speech$"):
        catalogue.resolve("hf:org/speech")


def test_a_wrong_token_is_said_to_be_one(fake: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    fake.gated = "hf_right"
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    with pytest.raises(HubError, match=r"refuses org/speech \(status 401\): Invalid credentials \(a token is set"):
        catalogue.resolve("hf:org/speech")
    with pytest.raises(HubError, match="no such model, or not for the owner of this token"):
        catalogue.resolve("hf:org/none")


@pytest.mark.parametrize("place", ["HF_TOKEN", "HF_TOKEN_PATH", "HF_HOME"])
def test_the_token_opens_a_gated_model_and_stays_with_hugging_face(
    fake: FakeHub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, place: str
) -> None:
    """Neither the host that large files are on nor ModelScope gets to see it."""
    fake.gated = "hf_right"
    fake.cdn = f"http://localhost:{fake.server_port}"
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    if place == "HF_TOKEN":
        monkeypatch.setenv(place, "hf_right")
    else:
        path = tmp_path / ("huggingface/token" if place == "HF_HOME" else "secret")
        path.parent.mkdir(exist_ok=True)
        path.write_text("hf_right\n")
        if place == "HF_TOKEN_PATH":
            monkeypatch.setenv(place, str(path))
    assert files(catalogue.resolve("hf:org/speech")) == wanted_speech()
    assert {token for path, token in fake.tokens if "/cdn/" not in path} == {"Bearer hf_right"}
    assert [token for path, token in fake.tokens if "/cdn/" in path] == [None]
    fake.tokens.clear()
    catalogue.resolve("ms:org/speech")
    assert {token for _, token in fake.tokens} == {None}


def test_a_cache_that_cannot_be_written(fake: FakeHub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("PARASTREAM_CACHE", str(tmp_path / "file"))
    with pytest.raises(HubError, match="org/speech cannot be stored in"):
        catalogue.resolve("org/speech")


@pytest.mark.parametrize("show", [True, False, None])
def test_progress_bar(fake: FakeHub, capsys: pytest.CaptureFixture[str], show: bool | None) -> None:
    catalogue.resolve("org/speech", progress=show)
    out, err = capsys.readouterr()
    assert out == ""
    assert ("org/speech" in err and "400.0/400.0 kB" in err) == (show is True)


@contextmanager
def in_another_process(errors: Path) -> Iterator[subprocess.Popen[str]]:
    """A download in a process of its own, which prints the directory, and complains into a file."""
    program = "from parastream.model import catalogue; print(catalogue.resolve('hf:org/speech'))"
    with (
        errors.open("w") as file,
        subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=file, text=True) as process,
    ):
        yield process


@pytest.mark.process
def test_two_processes_download_once(fake: FakeHub, tmp_path: Path) -> None:
    fake.stall.clear()
    errors = [tmp_path / "one", tmp_path / "two"]
    with in_another_process(errors[0]) as one, in_another_process(errors[1]) as two:
        wait_until(lambda: fake.asked_for("/cdn/"))
        wait_until(lambda: any("waiting for another process" in path.read_text() for path in errors))
        fake.stall.set()
        outputs = [process.communicate()[0].strip() for process in (one, two)]
    directory = tmp_path / "cache" / "models" / "hf" / "org" / "speech"
    assert outputs == [str(directory)] * 2, [path.read_text() for path in errors]
    assert files(directory) == wanted_speech()
    assert len(fake.asked_for("/cdn/")) == 1


@pytest.mark.process
def test_a_killed_process_leaves_nothing_that_looks_complete(fake: FakeHub, tmp_path: Path) -> None:
    fake.stall.clear()
    partial = tmp_path / "cache" / "partial" / "hf--org--speech" / "model.pt.part"
    with in_another_process(tmp_path / "errors") as process:
        wait_until(lambda: fake.asked_for("/cdn/") and partial.exists())
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
    with pytest.raises(HubError, match="not in the cache"):
        catalogue.resolve("hf:org/speech", offline=True)
    fake.stall.set()
    assert files(catalogue.resolve("hf:org/speech")) == wanted_speech()
