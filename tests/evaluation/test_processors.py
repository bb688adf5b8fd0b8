"""Images and texts of transformers' folders, against computations with Pillow alone; folders without them."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import transformers
from PIL import Image

from ernie_vilg_jax.errors import UserError
from ernie_vilg_jax.evaluation.processors import Processor, load_tokenizer
from tests import feature_models


@pytest.mark.parametrize("size", [(40, 60), (90, 31), (28, 28), (12, 20)], ids=str)
def test_clip_s_images_by_pillow(tmp_path: Path, size: tuple[int, int]) -> None:
    """The short side is resized to 28, then the middle is cut out."""
    feature_models.clip(tmp_path)
    array = feature_models.images(size)[0]
    short = min(size)
    height, width = (int(28 * side / short) for side in size)
    resized = np.asarray(Image.fromarray(array).resize((width, height), Image.Resampling.BICUBIC), np.float32)
    top, left = (height - 28) // 2, (width - 28) // 2
    middle = resized[top : top + 28, left : left + 28] / 255
    mean, std = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)  # of github.com/openai/CLIP
    processor = Processor(str(tmp_path))
    np.testing.assert_allclose(processor(array), (middle - mean) / std, atol=1e-5)
    np.testing.assert_allclose((processor.mean, processor.std), (mean, std), rtol=1e-6)
    assert processor.side == 28


def test_folders_without_them(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=rf"{tmp_path} has no image processor \(preprocessor_config\.json\)"):
        Processor(str(tmp_path))
    (tmp_path / "preprocessor_config.json").write_text("{")
    with pytest.raises(UserError, match=rf"{tmp_path} has no image processor .*put that of the same model beside"):
        Processor(str(tmp_path))
    crop = {"height": 28, "width": 21}
    transformers.CLIPImageProcessorPil(size={"shortest_edge": 28}, crop_size=crop).save_pretrained(tmp_path)
    with pytest.raises(UserError, match="makes images of 21x28 pixels, not squares"):
        Processor(str(tmp_path))


def test_tokenizers_that_do_not_fit(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "clip"}')
    with pytest.raises(UserError, match=rf"{tmp_path} has no tokenizer \(tokenizer\.json or vocab\.json or"):
        load_tokenizer(str(tmp_path), 99)
    feature_models.clip(tmp_path)
    assert len(load_tokenizer(str(tmp_path), 99)) == 54
    with pytest.raises(UserError, match="its tokenizer has 54 tokens, but its text encoder has only 53"):
        load_tokenizer(str(tmp_path), 53)
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(UserError, match=f"{tmp_path} has no tokenizer that can be read"):
        load_tokenizer(str(tmp_path), 99)


@pytest.mark.slow
def test_torch_is_not_needed(tmp_path: Path) -> None:
    feature_models.clip(tmp_path)
    code = f"""
        import importlib.util, sys
        find = importlib.util.find_spec
        importlib.util.find_spec = lambda name, *rest: None if name.startswith("torch") else find(name, *rest)
        sys.modules["torch"] = sys.modules["torchvision"] = None
        import numpy as np
        from ernie_vilg_jax.evaluation.networks import make_network
        network = make_network("clip", path={str(tmp_path)!r}, batch_size=1)
        assert network([np.zeros((9, 9, 3), np.uint8)]).shape == network.texts(["a cat"]).shape == (1, 16)
    """
    lines = [line[8:] for line in code.splitlines()]
    subprocess.run([sys.executable, "-c", "\n".join(lines)], check=True)
