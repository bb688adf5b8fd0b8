"""The same guarantees with Postgres, from Debian's package."""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import portpicker
import pytest

from ernie_vilg_jax.errors import UserError
from ernie_vilg_jax.evaluation.study import answers, report
from ernie_vilg_jax.evaluation.study.database import Database
from ernie_vilg_jax.evaluation.study.raters import Raters

pytestmark = pytest.mark.network
pytest.importorskip("psycopg", reason="Postgres needs the extra `study`")


def programs() -> Path:
    """The folder of Postgres' programs; installs Debian's package if it is not there."""
    for tried in range(2):
        found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
        if found:
            return found[-1].parent
        if tried == 0 and shutil.which("apt-get") and os.geteuid() == 0:
            subprocess.run(["apt-get", "install", "-y", "-qq", "postgresql"], stdout=subprocess.DEVNULL, check=False)
    pytest.skip("Postgres is not installed (apt install postgresql)")


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server of its own with an empty database."""
    folder, port, bin_ = tmp_path_factory.mktemp("postgres"), portpicker.pick_unused_port(), programs()
    prefix = []
    if os.geteuid() == 0:  # it does not run as root
        for one in (folder, *list(folder.parents)[:2]):
            one.chmod(0o755)
        shutil.chown(folder, "postgres")
        prefix = ["runuser", "-u", "postgres", "--"]
    data, options = folder / "data", f"-p {port} -c listen_addresses=127.0.0.1 -k {folder}"

    def run(*command: object) -> None:
        subprocess.run([*prefix, *map(str, command)], check=True, stdout=subprocess.DEVNULL, cwd=folder)

    run(bin_ / "initdb", "-D", data, "-U", "study", "--auth=trust")
    run(bin_ / "pg_ctl", "-D", data, "-o", options, "-l", folder / "log", "-w", "start")
    yield f"postgresql://study@127.0.0.1:{port}/postgres"
    run(bin_ / "pg_ctl", "-D", data, "-m", "immediate", "stop")


def test_a_study_in_postgres(address: str, make_study: Callable[..., Database]):
    with pytest.raises(UserError, match="holds no study"):
        Database(address)
    database = make_study(address, most_raters=9, check_every=0)
    with pytest.raises(UserError, match="holds a study already"):
        make_study(address)
    raters = Raters(database)
    with ThreadPoolExecutor(16) as pool:
        joined = [rater for rater in pool.map(lambda _: raters.join(), range(16)) if rater]
    assert sorted(rater.number for rater in joined) == list(range(9))

    def work(token: str) -> None:
        while (rater := raters.find(token)) and rater.answered < rater.questions:
            raters.answer(rater, rater.answered, "left", seen=-1)

    with ThreadPoolExecutor(18) as pool:  # each rater on two devices
        list(pool.map(work, [rater.token for rater in joined for _ in range(2)]))
    found = answers.read(database)
    assert len(found) == len({(one.rater, one.question) for one in found}) == sum(one.questions for one in joined)
    raters.answer(rater := raters.all()[0], 0, "same", seen=0)
    raters.answer(rater, 0, "right", seen=0)
    assert [(one.choice, one.changes) for one in answers.read(database)[:1]] == [("same", 1)]
    rows = report.tables(found, answers.models(database)).preferences
    assert rows[0].votes == 9 * 6 and raters.picture("none") is None
    question = raters.question(rater, 0)
    assert question and raters.picture(question.pictures[0][0])[:4] == b"RIFF"  # pyright: ignore[reportOptionalSubscript]
    database.close()
