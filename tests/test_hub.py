"""Checkpoints of the Hugging Face hub, from a server on this machine that answers as the hub does."""

import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import unquote

import numpy as np
import pytest

from ernie_vilg_jax import checkpointing, hub, pipeline
from ernie_vilg_jax.errors import UserError
from ernie_vilg_jax.evaluation.publish import publish
from ernie_vilg_jax.interop import lora
from ernie_vilg_jax.interop.layout import flat
from ernie_vilg_jax.pipeline import Pipeline

COMMIT = "0123456789abcdef0123456789abcdef01234567"
FILES = {
    "README.md": b"# A model",
    "_CHECKPOINT_METADATA": b'{"custom_metadata": {}}',
    "expert_00/d/1": bytes(range(256)) * 40,
}


class Hub(BaseHTTPRequestHandler):
    """Two calls of the hub's protocol: what a repository holds, and its files."""

    asked: ClassVar[list[str]] = []
    repositories: ClassVar[dict[str, dict[str, bytes]]] = {}

    def do_GET(self) -> None:
        self.asked.append(self.path)
        path = unquote(self.path.split("?")[0])
        name = next((name for name in self.repositories if f"/{name}/" in path), "")
        files = self.repositories.get(name, {})
        if name and path.startswith(f"/api/models/{name}/revision/"):
            if path.rpartition("/")[2] not in ("main", "v1", COMMIT):
                self.answer(404, b"", {"X-Error-Code": "RevisionNotFound"})
                return
            siblings = [{"rfilename": file} for file in files]
            body = {"id": name, "sha": COMMIT, "siblings": siblings, "tags": [], "downloads": 0}
            self.answer(200, json.dumps(body).encode())
        elif name and path.startswith(f"/api/models/{name}/tree/"):
            listed = [
                {"type": "file", "path": file, "oid": "0" * 40, "size": len(data)} for file, data in files.items()
            ]
            self.answer(200, json.dumps(listed).encode())
        elif name and path.startswith(prefix := f"/{name}/resolve/{COMMIT}/"):
            data = files[path.removeprefix(prefix)]
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
    monkeypatch.setattr(Hub, "repositories", {"org/model": FILES})
    yield Hub
    server.shutdown()


def contents(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


@pytest.mark.parametrize("name", ["hf://org/model", "hf://org/model/", "hf://org/model@v1"])
def test_a_name_is_the_folder_of_its_files(name: str, served: type[Hub]) -> None:
    assert contents(Path(checkpointing.find(name))) == FILES
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


@pytest.mark.proofs
def test_what_is_published_makes_the_same_images_from_the_hub(
    served: type[Hub], bank: Path, adapters: Path, pipe: Pipeline, tmp_path: Path
) -> None:
    """A model with adapters beside it, and the adapters as a repository of their own: as a file, and as items."""
    here, there = tmp_path / "out", "hf://org/mine"
    publish(bank, here)
    lora.write_file(here / lora.FILE, lora.read(adapters, pipe.model), pipe.model)
    served.repositories |= {"org/mine": contents(here), "org/adapters": contents(adapters)}
    plain = pipeline.load(here), pipeline.load(there)
    adapted = pipeline.load(here, lora=here / lora.FILE), pipeline.load(there, lora=there)
    images = [np.asarray(one("一只猫", steps=1)[0]) for one in (*plain, *adapted)]
    np.testing.assert_array_equal(images[0], images[1])
    np.testing.assert_array_equal(images[2], images[3])
    assert not np.array_equal(images[0], images[2])
    items = flat(pipeline.load(there, lora="hf://org/adapters").params.experts[1])
    for path, leaf in flat(adapted[1].params.experts[1]).items():
        np.testing.assert_allclose(leaf, items[path], rtol=1e-5, atol=1e-6)
