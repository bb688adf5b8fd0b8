"""Which folders are checkpoints, and which are refused; their content is tested where it is used."""

import errno
import json
import logging
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from etils import epath

from ernie_vilg_jax import checkpointing, paths
from ernie_vilg_jax.checkpointing import faults
from ernie_vilg_jax.config import default_config
from ernie_vilg_jax.data.tokenizers import FILES as TOKENIZER_FILES
from ernie_vilg_jax.errors import UserError


@pytest.mark.parametrize(
    "left",
    ["7.orbax-checkpoint-tmp", "7.bak", "copy of 7", "-7", "7.5", "²", "８", "09", ".DS_Store", "latest", "step_7"],
)
def test_folders_that_are_not_steps_are_left_alone(left: str, tmp_path: Path) -> None:
    for name in ("0", "4", "12", left):
        (tmp_path / name).mkdir()
    (tmp_path / "9").write_text("a file")
    assert checkpointing.steps(epath.Path(tmp_path)) == [0, 4, 12]
    assert (tmp_path / left).is_dir()


def test_leftovers_of_a_killed_save_are_not_a_step(tmp_path: Path) -> None:
    """It may be complete except for the final rename."""
    for name in ("4", "9.orbax-checkpoint-tmp-1"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "_CHECKPOINT_METADATA").write_text('{"custom_metadata": {"step": 9}}')
    assert checkpointing.steps(epath.Path(tmp_path)) == [4]


def test_in_a_bucket_only_complete_checkpoints_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """There a folder has its final name from the first file on."""
    for name in ("4", "8"):
        (tmp_path / name).mkdir()
    (tmp_path / "4" / "commit_success.txt").write_text("")
    monkeypatch.setattr(paths, "is_url", lambda path: True)
    assert checkpointing.steps(epath.Path(tmp_path)) == [4]


@pytest.mark.parametrize("name", ["08", "step_8", "8.bak", "8 (copy)"])
def test_the_newest_by_another_name_is_refused(name: str, tmp_path: Path) -> None:
    """Otherwise the previous one would be mistaken for the newest. Beside the newest it is a copy."""
    for folder in ("4", name):
        (tmp_path / folder).mkdir()
    (tmp_path / name / "_CHECKPOINT_METADATA").write_text('{"custom_metadata": {"step": 8}}')
    told = re.escape(f"{tmp_path / name} holds the checkpoint of step 8: rename it to 8, or move it away")
    with pytest.raises(UserError, match=told):
        checkpointing.steps(epath.Path(tmp_path))
    (tmp_path / "8").mkdir()
    assert checkpointing.steps(epath.Path(tmp_path)) == [4, 8]


@pytest.mark.parametrize("item", ["train", "expert_00", "tokenizer"])
@pytest.mark.slow
def test_an_item_that_is_gone(item: str, whole_run: Path, tmp_path: Path) -> None:
    path = epath.Path(shutil.copytree(whole_run / "base/checkpoints/8", tmp_path / "8"))
    (tmp_path / "8" / item).rename(tmp_path / "8" / "default")
    with pytest.raises(UserError, match=f"lacks (its )?{item}"):
        checkpointing.read_metadata(path)


@pytest.mark.slow
def test_arrays_of_unknown_types(whole_run: Path, tmp_path: Path) -> None:
    """Text in place of a name makes Orbax restore an object."""
    path = tmp_path / "8"
    shutil.copytree(whole_run / "base/checkpoints/8", path)
    file = path / "text_encoder" / "_METADATA"
    described = json.loads(file.read_text())
    first = next(iter(described["tree_metadata"].values()))
    first["key_metadata"][-1]["key"] = "猫"
    file.write_text(json.dumps(described))
    with pytest.raises(UserError, match=r"damaged or incomplete|not what was saved"):
        checkpointing.read_whole(epath.Path(path), "text_encoder")


@pytest.fixture(scope="module")
def sealed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two checkpoints, of steps 4 and 8, each with two experts and a tokenizer."""
    folder = tmp_path_factory.mktemp("sealed")
    metadata = checkpointing.make_metadata(default_config(), phase="experts", examples=64)
    for step in (4, 8):
        items: dict[str, Any] = {
            f"expert_0{k}": {"ema": {"kernel": np.arange(6, dtype=np.float32).reshape(2, 3) + step + k}} for k in (0, 1)
        }
        items["tokenizer"] = {TOKENIZER_FILES[0]: np.frombuffer(f"vocabulary {step}".encode(), np.uint8)}
        checkpointing.save_once(folder / str(step), items, {**metadata, "step": step})
    return folder


def edit(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    file = path / "_CHECKPOINT_METADATA"
    whole = json.loads(file.read_text())
    change(whole["custom_metadata"])
    file.write_text(json.dumps(whole))


def exchange(path: Path) -> None:
    (path / "expert_00").rename(path / "aside")
    (path / "expert_01").rename(path / "expert_00")
    (path / "aside").rename(path / "expert_01")


def of_step_4(item: str) -> Callable[[Path], None]:
    def bring(path: Path) -> None:
        shutil.rmtree(path / item)
        shutil.copytree(path.parent / "4" / item, path / item)

    return bring


WRONG: dict[str, tuple[Callable[[Path], Any], str]] = {
    "experts exchanged": (exchange, r"expert_00 of checkpoint \S+/8 is not what was saved: 1 of its arrays"),
    "expert of another step": (of_step_4("expert_01"), r"expert_01 .* is not what was saved.*--resume_from=4"),
    "tokenizer of another step": (of_step_4("tokenizer"), r"tokenizer of checkpoint \S+/8 is not what was saved"),
    "edited": (lambda path: edit(path, lambda m: m.update(examples=0)), "metadata of checkpoint .* are not what was"),
    "no digest": (lambda path: edit(path, lambda m: m.pop("digest")), "metadata of checkpoint .* are not what was"),
    "config edited": (lambda path: edit(path, lambda m: m["config"].update(seed=7)), "metadata of checkpoint"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_unsaved_items_are_not_read(wrong: str, sealed: Path, tmp_path: Path) -> None:
    shutil.copytree(sealed, tmp_path / "run")
    path = tmp_path / "run/8"
    assert read(path)["expert_01"]["ema"]["kernel"][0, 0] == 9
    damage, told = WRONG[wrong]
    damage(path)
    with pytest.raises(UserError, match=told):
        read(path)


def read(path: Path) -> dict[str, Any]:
    """Like sampling, without the tokenizer, whose bytes here are not a vocabulary."""
    items = {name: checkpointing.read_whole(epath.Path(path), name) for name in ("expert_00", "expert_01")}
    with pytest.raises(UserError) as caught:
        checkpointing.read_tokenizer(epath.Path(path))
    if "not what was saved" in str(caught.value):
        raise caught.value
    return items


def test_a_renamed_step_is_refused(sealed: Path, tmp_path: Path) -> None:
    shutil.copytree(sealed / "8", tmp_path / "9")
    with pytest.raises(UserError, match=r"/9 is that of step 8: its folder was renamed"):
        read(tmp_path / "9")


@pytest.mark.parametrize("name", ["../outside", "/tmp/ernie_outside", "a/b", "notes.txt", ""])
def test_a_tokenizer_writes_files_of_known_names_only(name: str, tmp_path: Path) -> None:
    """Sealed like any other: an attacker could also compute the checksums."""
    path, metadata = tmp_path / "run", checkpointing.make_metadata(default_config(), phase="base")
    checkpointing.save_once(path, {"tokenizer": {name: np.zeros(3, np.uint8)}}, metadata)
    with pytest.raises(UserError, match="do not trust this checkpoint"):
        checkpointing.read_tokenizer(epath.Path(path))
    assert not Path("/tmp/ernie_outside").exists()


def test_without_checksums_there_is_one_warning(sealed: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "8"
    shutil.copytree(sealed / "8", path)
    edit(path, lambda metadata: [metadata.pop(name) for name in ("checksums", "digest", "step")])
    edit(path, lambda metadata: metadata.update(format=1))
    with caplog.at_level(logging.WARNING, "absl"):
        for name in ("expert_00", "expert_01"):
            checkpointing.read_whole(epath.Path(path), name)
    assert caplog.text.count(f"checkpoint {path} has no checksums") == 1


def raised(text: str, *causes: str) -> Exception:
    error = ValueError(text)
    error.__cause__ = raised(*causes) if causes else None
    return error


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (raised("outermost", "between", "the cause\nand more"), "the cause"),
        (raised("got <class 'jax._src.array.ArrayImpl'> for <class 'int'>"), "got ArrayImpl for int"),
        (raised("INTERNAL: writing a/b: [Errno 28] No space left on device; at x.cc:12"), "No space left on device"),
        (raised("\n \n"), "ValueError"),
        (raised("x" * 999), "x" * 200),
    ],
)
def test_the_reason_is_that_of_the_first_error(error: Exception, told: str) -> None:
    assert faults.reason_of(error) == told


def test_files_without_permission_are_not_called_damaged(tmp_path: Path) -> None:
    told = f"checkpoint {tmp_path} cannot be read: Permission denied; give this user the right to it"
    with pytest.raises(UserError, match=re.escape(told)), faults.reading(epath.Path(tmp_path)):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))


def test_the_remedy_of_an_export_does_not_mention_steps(tmp_path: Path) -> None:
    (tmp_path / "exported").mkdir()
    (tmp_path / "exported" / "_CHECKPOINT_METADATA").write_text('{"custom_metadata": {"step": 8}}')
    assert checkpointing.remedy(epath.Path(tmp_path / "exported")) == "restore it from a copy"
