"""Detectors of transformers: tiny models with random weights, from disk to boxes."""

import importlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ernie_vilg_jax.annotation.detectors import Detection, make_detector
from ernie_vilg_jax.errors import UserError
from ernie_vilg_jax.interop import pretrained
from tests.annotation import model_folders
from tests.annotation.model_folders import pictures

pytest.importorskip("torch")
LABELS = {0: "cup", 1: "traffic light", 2: "fjord,fiord"}
SIZES = [(40, 30), (30, 40), (64, 64), (40, 30), (200, 20)]
IDS = [f"r{k}" for k in range(len(SIZES))]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("detectors")
    return {
        "detr": model_folders.detr(folder / "detr", LABELS),
        "rt_detr": model_folders.rt_detr(folder / "rt_detr", LABELS),
        "owl_vit": model_folders.owl_vit(folder / "owl_vit"),
        "grounding_dino": model_folders.grounding_dino(folder / "grounding_dino", ["cup", "red", "dog"]),
    }


def detector(path: Path, **options: Any) -> Any:
    return make_detector("transformers", **{"model": str(path), "threshold": 0.0} | options)


def by_hand(path: Path, image: Image.Image) -> list[tuple[str, tuple[float, ...], float]]:
    """What DETR's outputs mean, from its paper: softmax over classes and "nothing", boxes as centre and size."""
    import torch
    from transformers import DetrForObjectDetection, DetrImageProcessorPil

    model = DetrForObjectDetection.from_pretrained(path).eval()
    with torch.inference_mode():
        output = model(**DetrImageProcessorPil.from_pretrained(path)(images=image, return_tensors="pt"))
    logits, boxes = output.logits[0].double().numpy(), output.pred_boxes[0].double().numpy()
    found = []
    for row, (x, y, w, h) in zip(logits, boxes, strict=True):
        chances = np.exp(row) / np.exp(row).sum()
        best = int(chances[:-1].argmax())
        found.append((LABELS[best], (x - w / 2, y - h / 2, x + w / 2, y + h / 2), chances[best]))
    return found


def test_closed_vocabulary_against_the_models_own_outputs(models: dict[str, Path]):
    images = pictures(SIZES)
    results = detector(models["detr"]).detect(images, IDS)
    assert len(results) == len(images)
    for image, found in zip(images, results, strict=True):
        expected = by_hand(models["detr"], image)
        assert len(found) == len(expected) > 0
        for label, box, score in expected:
            box = np.clip(box, 0, 1)
            near = [item for item in found if np.allclose(item.box, box, atol=2e-5)]
            assert any(item.name["en"] == label.split(",")[0] and abs(item.score - score) < 2e-5 for item in near)


@pytest.mark.parametrize("name", ["detr", "rt_detr", "owl_vit", "grounding_dino"])
def test_detections_are_well_formed_and_do_not_depend_on_the_batch(models: dict[str, Path], name: str):
    options: dict[str, Any] = {} if "detr" in name else {"labels": ["cup", "red dog"]}
    known = {"cup", "traffic light", "fjord"} if "detr" in name else {"cup", "red dog"}
    images = pictures(SIZES)
    results = detector(models[name], batch_size=3, **options).detect(images, IDS)
    assert sum(map(len, results)) > 5
    for found in results:
        assert [item.score for item in found] == sorted((item.score for item in found), reverse=True)
        for item in found:
            assert isinstance(item, Detection) and item.name["en"] in known and 0 <= item.score <= 1
            assert item.name.get("zh") == {"cup": "杯子", "traffic light": "红绿灯"}.get(item.name["en"])
            x0, y0, x1, y1 = item.box
            assert 0 <= x0 < x1 <= 1 and 0 <= y0 < y1 <= 1
            json.dumps(item.as_object())
    alone = detector(models[name], batch_size=1, **options)
    for image, id, found in zip(images, IDS, results, strict=True):
        [again] = alone.detect([image], [id])
        np.testing.assert_allclose([d.box for d in again], [d.box for d in found], atol=2e-5)
        np.testing.assert_allclose([d.score for d in again], [d.score for d in found], atol=2e-5)
    assert detector(models[name], batch_size=3, **options).detect(images, IDS) == results


def test_labels_that_stand_for_nothing(tmp_path: Path):
    folder = model_folders.detr(tmp_path / "detr", dict.fromkeys(LABELS, "N/A"))
    assert detector(folder).detect(pictures(SIZES), IDS) == [[]] * len(SIZES)


def test_threshold(models: dict[str, Path]):
    images = pictures(SIZES)
    everything = [item for found in detector(models["rt_detr"]).detect(images, IDS) for item in found]
    middle = float(np.median([item.score for item in everything]))
    some = [item for found in detector(models["rt_detr"], threshold=middle).detect(images, IDS) for item in found]
    assert 0 < len(some) < len(everything) and all(item.score >= middle - 1e-5 for item in some)
    assert detector(models["rt_detr"], threshold=1.0).detect(images[:1], IDS[:1]) == [[]]


def test_chinese_names_from_a_file(models: dict[str, Path], tmp_path: Path):
    table = tmp_path / "names.json"
    table.write_text(json.dumps({"cup": "茶杯", "red dog": "红狗"}), encoding="utf-8")
    found = detector(models["owl_vit"], labels=["cup", "red dog"], label_names=str(table)).detect(
        pictures([(9, 9)]), ["a"]
    )
    assert {item.name["zh"] for item in found[0]} <= {"茶杯", "红狗"}


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "LA", "1", "I;16", "CMYK"])
def test_images_of_any_mode(models: dict[str, Path], mode: str):
    image = Image.new(mode, (20, 10))
    assert len(detector(models["rt_detr"]).detect([image], ["a"])[0]) > 0


def test_transparent_parts_are_white():
    image = Image.new("RGBA", (2, 1), (0, 0, 0, 0))
    image.putpixel((1, 0), (255, 0, 0, 255))
    assert np.asarray(pretrained.as_rgb(image, "a")).tolist() == [[[255, 255, 255], [255, 0, 0]]]


def test_no_images(models: dict[str, Path]):
    assert detector(models["detr"]).detect([], []) == []


def fails(message: str, **options: Any) -> None:
    with pytest.raises(UserError, match=message) as caught:
        make_detector("transformers", **options)
    assert "\n" not in str(caught.value)


def test_wrong_options(models: dict[str, Path], tmp_path: Path):
    detr, owl = str(models["detr"]), str(models["owl_vit"])
    fails("is not a folder: check the path", model=str(tmp_path / "none"))
    fails("has no config.json", model=str(tmp_path))
    fails("is a file", model=f"{detr}/config.json")
    fails(r"threshold=1.5 must be in \[0, 1\]", model=detr, threshold=1.5)
    fails("batch_size=0 must be a whole number of at least 1", model=detr, batch_size=0)
    fails("has labels of its own: leave out the option labels", model=detr, labels=["cup"])
    fails("has an open vocabulary: say what to look for", model=owl)
    fails("labels='cup' must be a list", model=owl, labels="cup")
    fails("labels=.* must be a list", model=owl, labels=["cup", ""])
    fails("device='gpu' cannot be used", model=detr, device="gpu")


def test_models_that_are_not_detectors(tmp_path: Path):
    folder = model_folders.vision_encoder_decoder(tmp_path / "captioner", ["a"])
    fails("is a vision-encoder-decoder model, not a detector: give an object detector", model=str(folder))


def test_damaged_folders(models: dict[str, Path], tmp_path: Path):
    import shutil

    folder = tmp_path / "detr"
    shutil.copytree(models["detr"], folder)
    (folder / "preprocessor_config.json").unlink()
    fails("the image processor of detector model .* cannot be loaded", model=str(folder))
    shutil.copytree(models["detr"], folder, dirs_exist_ok=True)
    (folder / "model.safetensors").write_bytes(b"damaged")
    fails("the weights of detector model .* cannot be loaded", model=str(folder))
    (folder / "config.json").write_text("{")
    fails("the configuration of detector model .* cannot be loaded", model=str(folder))
    (folder / "config.json").write_text('{"model_type": "no-such-model"}')
    fails("the configuration of detector model .* cannot be loaded", model=str(folder))


def test_an_unreachable_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    fails("'nobody/nothing' is not a folder, and its configuration could not be fetched", model="nobody/nothing")
    fails("is not a folder: check the path, or give owner/name", model="no/such/folder")


def test_a_missing_torch(monkeypatch: pytest.MonkeyPatch, models: dict[str, Path]):
    real = importlib.import_module

    def without_torch(name: str, package: str | None = None) -> Any:
        if name == "torch":
            raise ModuleNotFoundError("No module named 'torch'")
        return real(name, package)

    monkeypatch.setattr(importlib, "import_module", without_torch)
    fails(r"needs the package torch: pip install '\.\[models\]', in a clone", model=str(models["detr"]))


def test_an_unreadable_image(models: dict[str, Path], tmp_path: Path):
    file = tmp_path / "cut.png"
    pictures([(64, 64)])[0].save(file)
    file.write_bytes(file.read_bytes()[:2000])
    with Image.open(file) as image, pytest.raises(UserError, match="the image of record 'cut' cannot be decoded"):
        detector(models["detr"]).detect([image], ["cut"])
