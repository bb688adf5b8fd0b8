"""Which folders are checkpoints, and which are refused; what is in them is tested where it is used."""

import json
import re
import shutil
from pathlib import Path

import pytest
from etils import epath

from ernie_vilg_jax import checkpointing
from ernie_vilg_jax.errors import UserError


@pytest.mark.parametrize(
    "left",
    ["7.orbax-checkpoint-tmp", "7.bak", "copy of 7", "-7", "7.5", "²", "８", "09", ".DS_Store", "latest", "step_7"],
)
def test_what_is_no_step_is_left_alone(left: str, tmp_path: Path) -> None:
    for name in ("0", "4", "12", left):
        (tmp_path / name).mkdir()
    (tmp_path / "9").write_text("a file")
    assert checkpointing.steps(epath.Path(tmp_path)) == [0, 4, 12]
    assert (tmp_path / left).is_dir()


@pytest.mark.parametrize("name", ["08", "step_8", "8.bak", "8 (copy)"])
def test_the_newest_by_another_name_is_refused(name: str, tmp_path: Path) -> None:
    """Else the one before it would be taken for the newest. Beside the newest it is a copy."""
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
def test_arrays_of_no_known_type(whole_run: Path, tmp_path: Path) -> None:
    """Text in the place of a name makes Orbax restore an object."""
    path = tmp_path / "8"
    shutil.copytree(whole_run / "base/checkpoints/8", path)
    file = path / "text_encoder" / "_METADATA"
    described = json.loads(file.read_text())
    first = next(iter(described["tree_metadata"].values()))
    first["key_metadata"][-1]["key"] = "猫"
    file.write_text(json.dumps(described))
    with pytest.raises(UserError, match=r"damaged or incomplete|not what was saved"):
        checkpointing.read_whole(epath.Path(path), "text_encoder")


def test_the_remedy_of_an_export_says_nothing_of_steps(tmp_path: Path) -> None:
    (tmp_path / "exported").mkdir()
    (tmp_path / "exported" / "_CHECKPOINT_METADATA").write_text('{"custom_metadata": {"step": 8}}')
    assert checkpointing.remedy(epath.Path(tmp_path / "exported")) == "restore it from a copy"
