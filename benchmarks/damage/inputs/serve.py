"""One request to a page whose worker paints white: `python -m benchmarks.damage.inputs.serve PATH BODY_FILE`.

Prints the number of images and ends with 0, or with the server's sentence and 1.
"""

import dataclasses
import json
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import portpicker
from PIL import Image

from benchmarks.load_demo import send
from configs.demo import get_config
from ernie_vilg_jax.data.sizes import Size
from ernie_vilg_jax.webapp.options import choices_for
from ernie_vilg_jax.webapp.request import Request
from ernie_vilg_jax.webapp.worker import Update


class Painter:
    """A `Worker` without a model. It waits while `free` is clear, and sets `begun` at each request.

    Attributes:
      status: as of a `Worker`.
      asked: the last request.
    """

    choices = dataclasses.replace(choices_for(get_config()), sizes=(Size(64, 64), Size(64, 96)))

    def __init__(self) -> None:
        self.free, self.begun = threading.Event(), threading.Event()
        self.free.set()
        self.status = ""
        self.asked: Any = None

    def cut_off(self, request: Request) -> str:
        return ""

    def never_seen(self, request: Request) -> list[str]:
        return ["zebra"] if "zebra" in request.prompt else []

    def make(self, request: Request) -> Iterator[Update]:
        self.asked = request
        self.begun.set()
        images = []
        for number in range(request.params.num_images):
            image = Image.new("RGB", (8, 8), (90 + number, 160, 90))
            image.info.update(prompt=request.prompt, seed=str(request.params.seed), number=str(number))
            images.append(image)
        yield Update(2, 4, images, stages=(1, 1, 0, 0))
        self.free.wait(60)
        yield Update(4, 4, images, done=True)


def main() -> None:
    from ernie_vilg_jax.webapp.page import Page

    path, file = sys.argv[1:]
    page = Page(Painter(), queue_size=3)  # type: ignore[arg-type]
    address = page.launch("127.0.0.1", portpicker.pick_unused_port()).rstrip("/")
    kind, text = send(address, path, Path(file).read_bytes())
    if kind == "complete":
        answer = json.loads(text)
        print(json.dumps({"images": len(answer[0]), "seed": answer[2], "note": answer[1]}))
        sys.exit(0)
    content = json.loads(text)
    sentence = content.get("error") or content.get("detail")
    # A list is pydantic's account of a body that is not of the form of a request.
    print(f"error: {sentence if isinstance(sentence, str) else sentence[0]['msg']}", file=sys.stderr)
    sys.exit(1)


if __name__ == "__main__":
    main()
