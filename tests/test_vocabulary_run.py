"""A vocabulary with the structure of bert-base-chinese, from `prepare` to `sample`."""

from pathlib import Path

import numpy as np
import pytest
from etils import epath
from PIL import Image
from transformers import AutoTokenizer

from configs.demo import get_config
from ernie_vilg_jax import checkpointing
from ernie_vilg_jax.preparation.prepare import prepare
from tests.commands import run_all
from tests.made_vocabulary import SIZE, made_vocabulary
from tests.tiny_run import train

pytestmark = [pytest.mark.slow, pytest.mark.proofs]


def test_a_vocabulary_with_line_separators_from_prepare_to_sample(tmp_path: Path):
    source = tmp_path / "bert-base-chinese"
    source.mkdir()
    (source / "vocab.txt").write_text(made_vocabulary(), encoding="utf-8")
    (source / "config.json").write_text('{"model_type": "bert"}')
    theirs = AutoTokenizer.from_pretrained(str(source))
    for phase in ("autoencoder", "base"):
        config = get_config(f"{phase},smoke")
        config.tokenizer.update(kind="bert", path=str(source), vocab_size=SIZE)
        config.data.path = str(tmp_path / "data")
        config.phases[phase].steps = 2
        config.train.validate_every = config.train.preview_every = 0
        if phase == "autoencoder":
            prepare(config, tmp_path / "data")
        train(config, tmp_path / "run")
    saved = checkpointing.read_tokenizer(checkpointing.find(epath.Path(tmp_path / "run")))
    for text in ("红色的圆形", "a red star above a blue circle", "一个\u2028黄色的三角形"):
        expected = theirs(text, padding="max_length", truncation=True, max_length=16)["input_ids"]
        np.testing.assert_array_equal(saved.encode(text)[0], expected)
        assert len(set(expected)) > 5
    out = tmp_path / "out"
    (done,) = run_all(
        [["sample", f"--checkpoint={tmp_path / 'run'}", "--prompt=红色的圆形", "--steps=2", f"--output={out}"]]
    )
    assert done.status == 0, done.stderr
    assert Image.open(out / "000.png").info["prompt"] == "红色的圆形"
