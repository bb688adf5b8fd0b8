"""Detectors of `transformers`, from a folder or the hub: DETR's relatives, and open-vocabulary ones (OWL-ViT,
Grounding DINO), which find the objects in `labels`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from PIL import Image

from ernie_vilg_jax.annotation.detectors import Detection, detection
from ernie_vilg_jax.annotation.detectors.names import Names
from ernie_vilg_jax.errors import UserError
from ernie_vilg_jax.interop import pretrained


class HubDetector:
    """An object detector of `transformers`.

    Images share a batch only if their shapes are equal after preprocessing. Models that resize everything to one size
    (RT-DETR, OWL-ViT) therefore always run in full batches; DETR only for images of one shape.
    """

    def __init__(
        self,
        model: str,
        labels: Sequence[str] = (),
        threshold: float = 0.5,
        batch_size: int = 8,
        label_names: str = "",
        device: str = "cpu",
    ) -> None:
        """Loads the model.

        Args:
          model: folder that `save_pretrained` wrote, or owner/name on the hub.
          labels: what to look for, for open-vocabulary models only.
          threshold: lowest score to keep. Open-vocabulary models score lower: 0.1 is usual for OWL-ViT, 0.3 for
            Grounding DINO.
          batch_size: images at once.
          label_names: JSON file {"English name": "Chinese name"} for labels other than COCO's.
          device: a torch device.
        """
        if not 0 <= threshold <= 1:
            raise UserError(f"detector option threshold={threshold} must be in [0, 1]")
        pretrained.check_positive("detector", batch_size=batch_size)
        self._threshold, self._batch_size = threshold, batch_size
        self._labels = _check_labels(labels)
        self._names = Names(label_names)
        self._hub = pretrained.Pretrained("detector", model, device)
        from transformers import AutoModelForObjectDetection, AutoModelForZeroShotObjectDetection, AutoProcessor
        from transformers.models.auto import modeling_auto

        closed = modeling_auto.MODEL_FOR_OBJECT_DETECTION_MAPPING_NAMES
        opened = modeling_auto.MODEL_FOR_ZERO_SHOT_OBJECT_DETECTION_MAPPING_NAMES
        self._hub.check_type({*closed, *opened}, "give an object detector such as DETR, RT-DETR or OWL-ViT")
        self._open = self._hub.config.model_type in opened
        if self._open and not self._labels:
            raise UserError(
                f"detector {model} has an open vocabulary: say what to look for, as in labels=('cup', 'dog')"
            )
        if self._labels and not self._open:
            raise UserError(f"detector {model} has labels of its own: leave out the option labels")
        if self._open:
            self._processor = self._hub.load(AutoProcessor.from_pretrained, "processor", backend="pil")
            self._model = self._hub.load_model(AutoModelForZeroShotObjectDetection)
        else:
            self._processor = self._hub.load_image_processor()
            self._model = self._hub.load_model(AutoModelForObjectDetection)

    def detect(self, images: Sequence[Image.Image], ids: Sequence[str]) -> list[list[Detection]]:
        """Detections by descending score."""
        pretrained.check_ids(images, ids)
        found: list[list[Detection]] = [[] for _ in images]

        def process(index: int) -> dict[str, Any]:
            shown = pretrained.as_rgb(images[index], ids[index])
            if self._open:
                return dict(self._processor(images=[shown], text=[self._labels], return_tensors="pt"))
            return dict(self._processor(images=[shown], return_tensors="pt"))

        for indices, inputs in self._hub.batches(len(images), self._batch_size, process):
            sizes = [(images[index].height, images[index].width) for index in indices]
            for index, result in zip(indices, self._run(inputs, sizes), strict=True):
                found[index] = self._detections(result, images[index].size)
        return found

    def _run(self, inputs: dict[str, Any], sizes: list[tuple[int, int]]) -> list[dict[str, Any]]:
        """{"scores", "boxes" in pixels, and "labels" or "text_labels"} of each image."""
        with self._hub.torch.inference_mode():
            outputs = self._model(**inputs)
            if not self._open:
                return self._processor.post_process_object_detection(
                    outputs, threshold=self._threshold, target_sizes=self._hub.torch.tensor(sizes)
                )
            return self._processor.post_process_grounded_object_detection(
                outputs,
                threshold=self._threshold,
                target_sizes=self._hub.torch.tensor(sizes),
                text_labels=[self._labels] * len(sizes),
            )

    def _detections(self, result: dict[str, Any], size: tuple[int, int]) -> list[Detection]:
        width, height = size
        if self._open:
            labels = [self._nearest(text) for text in result["text_labels"]]
        else:
            names = self._hub.config.id2label
            labels = [names.get(int(label), "") for label in result["labels"]]
        detections = []
        for label, box, score in zip(labels, result["boxes"].tolist(), result["scores"].tolist(), strict=True):
            name = self._names(label)
            x0, y0, x1, y1 = box
            item = detection(name, (x0 / width, y0 / height, x1 / width, y1 / height), score) if name else None
            if item is not None:
                detections.append(item)
        return sorted(detections, key=lambda item: (-item.score, item.box, sorted(item.name.items())))

    def _nearest(self, text: str) -> str:
        """The label of a phrase. Grounding DINO returns pieces of its prompt, often truncated or joined."""
        phrase = text.strip().lower()
        exact = next((label for label in self._labels if label.lower() == phrase), None)
        if exact is not None:
            return exact
        words = set(re.findall(r"\w+", phrase))
        parts = [re.findall(r"\w+", label.lower()) for label in self._labels]
        shared = [len(words.intersection(part)) / max(len(part), 1) for part in parts]
        best = max(range(len(shared)), key=lambda k: (shared[k], len(self._labels[k]), -k))
        return self._labels[best] if shared[best] > 0 else ""


def _check_labels(labels: Sequence[str]) -> list[str]:
    if isinstance(labels, str) or not all(isinstance(label, str) and label.strip() for label in labels):
        raise UserError(f"detector option labels={labels!r} must be a list of names, as in ('cup', 'dog')")
    return list(dict.fromkeys(label.strip() for label in labels))
