"""How a human study copes with many raters at once: every answer must be stored once, and pages must come quickly.

    python -m benchmarks.study
    python -m benchmarks.study --study=postgresql://study@127.0.0.1/empty

Makes a study of made-up pictures, serves it by the command, and lets --raters clients answer --answers questions each.
Each answer is what a browser asks for: a post, the next page, its pictures. Prints the times of each kind of request,
errors, and whether the database holds exactly the answers that were given. Exits with 1 if any is missing, doubled or
failed.
"""

import http.client
import re
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse
from collections import defaultdict
from pathlib import Path

import numpy as np
import portpicker
from absl import app, flags
from PIL import Image

from ernie_vilg_jax.evaluation.study import answers
from ernie_vilg_jax.evaluation.study.creation import Options, create
from ernie_vilg_jax.evaluation.study.database import Database
from ernie_vilg_jax.evaluation.study.raters import Raters
from ernie_vilg_jax.pipeline.prompts import Prompt

FLAGS = flags.FLAGS


class Client:
    """A rater's browser: one connection, as browsers keep it."""

    def __init__(self, port: int, token: str) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        self._own = f"/r/{token}"
        self.seconds: dict[str, list[float]] = defaultdict(list)
        self.errors: list[str] = []
        self.given: list[str] = []

    def ask(self, kind: str, method: str, path: str, **form: object) -> tuple[int, str, str]:
        """Status, location and text of a response."""
        start = time.perf_counter()
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        self._connection.request(method, path, urllib.parse.urlencode(form) or None, headers)
        response = self._connection.getresponse()
        text = response.read().decode(errors="replace")
        self.seconds[kind].append(time.perf_counter() - start)
        if response.status not in (200, 303):
            self.errors.append(f"{method} {kind}: {response.status}")
        return response.status, response.headers.get("location", ""), text

    def work(self, number: int, count: int, pause: float) -> None:
        """Answers `count` questions, looking at each for `pause` seconds on average."""
        rng = np.random.default_rng(number)
        try:
            page = self.ask("start", "POST", f"{self._own}/start", language="en")[1]
            for _ in range(count):
                text = self.ask("page", "GET", page)[2]
                for picture in re.findall(r'src="(/p/[^"]+)"', text):
                    self.ask("picture", "GET", picture)
                time.sleep(rng.exponential(pause) if pause else 0)
                choice = ("left", "same", "right")[rng.integers(3)]
                page = self.ask("answer", "POST", page, choice=choice, seen=-1, milliseconds=1000)[1]
                self.given.append(choice)
        except (OSError, http.client.HTTPException) as error:
            self.errors.append(f"{type(error).__name__}: {error}")


def make(place: str, folder: Path) -> Raters:
    """A study with pictures of noise, which do not compress: as large as those of photographs."""
    rng = np.random.default_rng(0)
    prompts = [Prompt(f"{n:03d}", f"prompt {n}", "en") for n in range(FLAGS.prompts)]
    folders = {}
    for model in ("one", "two"):
        (folder / model).mkdir()
        folders[model] = str(folder / model)
        for prompt in prompts:
            for number in range(FLAGS.pictures):
                small = rng.integers(0, 256, (FLAGS.size // 4, FLAGS.size // 4, 3), dtype=np.uint8)
                image = Image.fromarray(small).resize((FLAGS.size, FLAGS.size))
                image.save(folder / model / f"{prompt.id}_{number}.png", compress_level=1)
    database = Database(place, create=True)
    create(database, prompts, folders, Options(practice=False))
    return Raters(database)


def main(argv: list[str]) -> None:
    del argv
    with tempfile.TemporaryDirectory() as scratch:
        place = FLAGS.study or str(Path(scratch) / "study.db")
        raters = make(place, Path(scratch))
        people = raters.invite(FLAGS.raters)
        port = portpicker.pick_unused_port()
        command = [sys.executable, "-m", "ernie_vilg_jax.human_study", "serve", place, f"--port={port}"]
        server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        try:
            assert server.stderr is not None
            next(line for line in server.stderr if "open http" in line)
            time.sleep(1)
            clients = [Client(port, rater.token) for rater in people]
            count = min(FLAGS.answers, people[0].questions)
            jobs = [(n, count, FLAGS.pause) for n in range(len(clients))]
            threads = [threading.Thread(target=one.work, args=job) for one, job in zip(clients, jobs, strict=True)]
            start = time.perf_counter()
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            spent = time.perf_counter() - start
        finally:
            server.terminate()
            server.wait(60)
        stored: dict[int, list[str]] = defaultdict(list)
        for answer in answers.read(Database(place)):
            stored[answer.rater].append(answer.choice)
        wrong = [n for n, client in enumerate(clients) if stored[n] != client.given]
        errors = [error for client in clients for error in client.errors]
        print(f"{len(clients)} raters at once, {spent:.1f} s, {sum(map(len, stored.values()))} answers stored, "
              f"{len(errors)} errors, {len(wrong)} raters whose stored answers are not those given")  # fmt: skip
        for kind in ("page", "picture", "answer"):
            times = 1000 * np.concatenate([client.seconds[kind] for client in clients])
            p50, p95 = np.percentile(times, [50, 95])
            print(f"{kind:8} {len(times):6} requests, ms: median {p50:.0f}, p95 {p95:.0f}, max {times.max():.0f}")
        for error in sorted(set(errors))[:10]:
            print(error)
        sys.exit(bool(errors or wrong))


if __name__ == "__main__":
    flags.DEFINE_string("study", "", "An empty database of Postgres, or a file that does not exist; a temporary file.")
    flags.DEFINE_integer("raters", 50, "Raters at once.")
    flags.DEFINE_integer("answers", 40, "Questions that each answers.")
    flags.DEFINE_integer("prompts", 30, "Prompts of the study.")
    flags.DEFINE_integer("pictures", 4, "Pictures per model and prompt.")
    flags.DEFINE_integer("size", 512, "Pixels of a side.")
    flags.DEFINE_float("pause", 1.0, "Seconds that a rater looks at a question, on average; people take five or more.")
    app.run(main)
