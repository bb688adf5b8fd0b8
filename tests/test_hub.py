"""Checkpoints of the Hugging Face hub, from a server on this machine that answers as the hub does."""

import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import unquote

import pytest

from ernie_vilg_jax import checkpointing, hub
from ernie_vilg_jax.errors import UserError

COMMIT = "0123456789abcdef0123456789abcdef01234567"
FILES = {
    "README.md": b"# A model",
    "_CHECKPOINT_METADATA": b'{"custom_metadata": {}}',
    "expert_00/d/1": bytes(range(256)) * 40,
}


class Hub(BaseHTTPRequestHandler):
    """Two calls of the hub's protocol: what a repository holds, and its files."""

    asked: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        self.asked.append(self.path)
        path = unquote(self.path.split("?")[0])
        if path.startswith("/api/models/org/model/revision/"):
            if path.rpartition("/")[2] not in ("main", "v1", COMMIT):
                self.answer(404, b"", {"X-Error-Code": "RevisionNotFound"})
                return
            siblings = [{"rfilename": name} for name in FILES]
            body = {"id": "org/model", "sha": COMMIT, "siblings": siblings, "tags": [], "downloads": 0}
            self.answer(200, json.dumps(body).encode())
        elif path.startswith("/api/models/org/model/tree/"):
            listed = [
                {"type": "file", "path": name, "oid": "0" * 40, "size": len(data)} for name, data in FILES.items()
            ]
            self.answer(200, json.dumps(listed).encode())
        elif path.startswith(prefix := f"/org/model/resolve/{COMMIT}/"):
            data = FILES[path.removeprefix(prefix)]
            told = {"ETag": f'"{hashlib.sha1(data).hexdigest()}"', "X-Repo-Commit": COMMIT}
            self.answer(200, data, told)
        else:
            self.answer(404, b"", {"X-Error-Code": "RepoNotFound"})

    do_HEAD = do_GET

    def answer(self, status: int, body: bytes, headers: Any = None) -> None:
        self.send_response(status)
        for name, value in {
            "Content-Length": str(len(body)),
            "Content-Type": "application/json",
            **(headers or {}),
        }.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[type[Hub]]:
    """A hub on this machine, in place of the real one."""
    import huggingface_hub
    from huggingface_hub import constants

    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    whole = huggingface_hub.snapshot_download
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(
        huggingface_hub,
        "snapshot_download",
        lambda name, revision: whole(
            name, revision=revision, endpoint=address, cache_dir=tmp_path / "hub", token=False
        ),
    )
    Hub.asked.clear()
    yield Hub
    server.shutdown()


@pytest.mark.parametrize("name", ["hf://org/model", "hf://org/model/", "hf://org/model@v1"])
def test_a_name_is_the_folder_of_its_files(name: str, served: type[Hub]) -> None:
    folder = checkpointing.find(name)
    assert {
        str(file.relative_to(folder)): file.read_bytes() for file in Path(folder).rglob("*") if file.is_file()
    } == FILES
    assert any(("v1" if "@" in name else "main") in path for path in served.asked)


def test_a_second_time_no_file_is_downloaded(served: type[Hub]) -> None:
    first = hub.fetch("hf://org/model", "checkpoint")
    served.asked.clear()
    assert hub.fetch("hf://org/model", "checkpoint") == first
    assert not [path for path in served.asked if "/resolve/" in path]


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("hf://model", "^--checkpoint=hf://model must be hf://OWNER/NAME"),
        ("hf://org/model/expert", "must be hf://OWNER/NAME"),
        ("hf://", "must be hf://OWNER/NAME"),
        ("hf://org/another", "^--checkpoint=hf://org/another cannot be downloaded .*; check the name and the network"),
        ("hf://org/model@v2", "^--checkpoint=hf://org/model@v2 cannot be downloaded"),
    ],
)
def test_names_that_lead_nowhere_are_one_sentence(name: str, sentence: str, served: type[Hub]) -> None:
    with pytest.raises(UserError, match=sentence) as caught:
        checkpointing.find(name)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400
