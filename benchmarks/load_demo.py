"""How the web demo copes with many visitors: clients that request images at once, and one that sends nonsense.

    python -m ernie_vilg_jax.demo --port=7861 --client_queue_size=0 &      # all its clients have one address
    python benchmarks/load_demo.py --port=7861 --seconds=180 --clients=10

Each client requests images with the page's settings, one request after the other, over plain HTTP. If the demo is busy,
it tries again after two seconds. The nonsense must be refused with a sentence, and change nothing else.
Prints the requests that were filled, refused as busy or failed, their duration, and the server's memory before and
after.
"""

import itertools
import json
import statistics
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import psutil
from absl import app, flags

FLAGS = flags.FLAGS

PROMPTS = ("一只熊猫", "a car", "一颗草莓", "a slice of pizza", "一座城堡")
GOOD = ["", "", 4, True, 0, "", 50, "ddim", 3.0, 1, "", 1, "", "text", "", "", 1.0]
"""All values that the page sends."""


def request(place: int = 0, value: Any = "一只猫", count: int = 4) -> bytes:
    """The body of a request with one value changed."""
    data = ["一只猫", *GOOD[1:2], count, *GOOD[3:]]
    data[place] = value
    return json.dumps({"data": data}).encode()


HOSTILE: dict[str, tuple[str, bytes]] = {
    "10 MB prompt": ("call/generate", request(0, "猫" * 3_400_000)),
    "prompt of 5,000 characters": ("call/generate", request(0, "a" * 5000)),
    "prompt that is a list": ("call/generate", request(0, [[["a"]]])),
    "prompt that is a file": (
        "call/generate",
        request(0, {"path": "/etc/passwd", "meta": {"_type": "gradio.FileData"}}),
    ),
    "half a character": ("call/generate", request(0, "\ud83d")),
    "unknown style": ("call/generate", request(1, "<script>alert(1)</script>")),
    "a billion images": ("call/generate", request(2, 10**9)),
    "text for a number": ("call/generate", request(2, "many")),
    "seed of 4,000 digits": ("call/generate", request(4, 10**3999).replace(b"true", b"false")),
    "a billion steps": ("call/generate", request(6, 10**9)),
    "guidance not a number": ("call/generate", request(8, float("nan"))),
    "image of nonsense": ("call/generate", request(14, "data:image/png;base64,AAAA").replace(b'"text"', b'"image"')),
    "image from elsewhere": ("call/generate", request(14, "http://10.0.0.1/a.png").replace(b'"text"', b'"image"')),
    "way that is none": ("call/generate", request(13, "../../etc")),
    "no values": ("call/generate", b'{"data": []}'),
    "too few values": ("call/generate", b'{"data": ["a cat"]}'),
    "too many values": ("call/generate", b'{"data": [1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18]}'),
    "no JSON": ("call/generate", b"\xff\xfe not json"),
    "JSON nested 30,000 deep": ("call/generate", b'{"data": ' + b"[" * 30_000 + b"]" * 30_000 + b"}"),
    "past the queue": ("run/generate", request()),
    "no such function": ("call/nothing", request()),
    "an upload": ("upload", b"x" * 1000),
}
"""Name -> address and body."""


@dataclass
class Counts:
    """Outcomes of the requests."""

    seconds: list[float] = field(default_factory=list)
    busy: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    hostile: Counter[str] = field(default_factory=Counter)


def send(base: str, path: str, body: bytes, timeout: float = 600) -> tuple[str, str]:
    """("complete", data), ("error", the sentence) or ("HTTP 413", the sentence) for a request."""
    request = urllib.request.Request(f"{base}/gradio_api/{path}", body, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=timeout) as answer:
            event = json.load(answer)["event_id"]
        with urllib.request.urlopen(f"{base}/gradio_api/{path}/{event}", timeout=timeout) as answer:
            kind = ""
            for line in answer:
                name, _, text = line.decode().strip().partition(": ")
                if name == "event":
                    kind = text
                elif name == "data" and kind in ("complete", "error"):
                    return kind, text
        return "error", "the response broke off"
    except urllib.error.HTTPError as error:
        return f"HTTP {error.code}", error.read().decode(errors="replace")
    except OSError as error:
        return "connection", str(error)


def visit(base: str, number: int, end: float, counts: Counts) -> None:
    """One client."""
    turn = number
    while time.monotonic() < end:
        start = time.monotonic()
        kind, text = send(base, "call/generate", request(0, PROMPTS[turn % len(PROMPTS)], FLAGS.num_images))
        if kind == "HTTP 503":
            counts.busy += 1
            time.sleep(2)
            continue
        turn += 1
        if kind == "complete" and len(json.loads(text)[0]) == FLAGS.num_images:
            counts.seconds.append(time.monotonic() - start)
        else:
            counts.failed[f"{kind}: {text[:200]}"] += 1


def attack(base: str, end: float, counts: Counts) -> None:
    """Sends all the nonsense again and again, one item every two seconds; some of it must wait in the queue."""
    waiting = []
    for name in itertools.cycle(HOSTILE):
        if time.monotonic() > end:
            break
        waiting.append(threading.Thread(target=attack_once, args=(base, name, counts)))
        waiting[-1].start()
        time.sleep(2)
    for thread in waiting:
        thread.join()


def attack_once(base: str, name: str, counts: Counts) -> None:
    """One request of `HOSTILE`."""
    kind, text = send(base, *HOSTILE[name])
    counts.hostile[f"{name}: {kind} {text[:110]}"] += 1


def server_process(port: int) -> psutil.Process:
    """The process that listens at the port."""
    for process in psutil.process_iter():
        try:
            if any(one.laddr.port == port and one.status == "LISTEN" for one in process.net_connections("inet")):
                return process
        except psutil.Error:
            continue
    raise SystemExit(f"nothing listens at port {port}: python -m ernie_vilg_jax.demo --port={port}")


def main(argv: list[str]) -> None:
    del argv
    base, process, counts = f"http://127.0.0.1:{FLAGS.port}", server_process(FLAGS.port), Counts()
    memory = lambda: process.memory_info().rss / 2**20  # noqa: E731
    before, start = memory(), time.monotonic()
    end = start + FLAGS.seconds
    threads = [threading.Thread(target=visit, args=(base, number, end, counts)) for number in range(FLAGS.clients)]
    threads.append(threading.Thread(target=attack, args=(base, end, counts)))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    spent, done = time.monotonic() - start, counts.seconds
    print(
        f"{FLAGS.clients} clients, {spent:.0f} s: {len(done)} requests filled, {len(done) * FLAGS.num_images} images, "
    )
    print(f"{counts.busy} times busy, {sum(counts.failed.values())} failures {dict(counts.failed) or ''}")
    if done:
        print(f"seconds of a request: min {min(done):.1f}, median {statistics.median(done):.1f}, max {max(done):.1f}")
    print(f"server's memory: {before:.0f} MiB before, {memory():.0f} MiB after")
    print(f"{sum(counts.hostile.values())} hostile requests:")
    for text, count in sorted(counts.hostile.items()):
        print(f"  {count} x {text}")


if __name__ == "__main__":
    # Not at the top: a test imports this module beside commands that have flags of the same names.
    flags.DEFINE_integer("port", 7860, "Port of the demo on this machine.")
    flags.DEFINE_float("seconds", 180, "For how long new requests are sent.")
    flags.DEFINE_integer("clients", 10, "Clients at once.")
    flags.DEFINE_integer("num_images", 4, "Images of a request.")
    app.run(main)
