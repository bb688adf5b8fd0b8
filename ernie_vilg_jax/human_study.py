"""People compare the images of models side by side in a browser, blind; then a report with intervals.

  python -m ernie_vilg_jax.human_study create study.db --prompts=ViLG-300.csv \\
    --images=ours=runs/ours/images,theirs=other/images --raters=5
  python -m ernie_vilg_jax.human_study serve  study.db --port=8000
  python -m ernie_vilg_jax.human_study links  study.db           # the personal links, and the owner's secret
  python -m ernie_vilg_jax.human_study invite study.db --raters=2
  python -m ernie_vilg_jax.human_study report study.db scores/   # report.html and .csv files
  python -m ernie_vilg_jax.human_study export study.db answers.csv

A study is one SQLite file, or a database of Postgres: postgresql://USER:PASSWORD@HOST/DATABASE in its place. Images are
named after the ids of the prompts, such as ID.png or ID_0.png. Behind a proxy, give `serve` and `links` the address
that raters type: --public_url=https://lab.example/study. docs/human_study.md has the rest.

Needs pip install '.[study]'.
"""

import re
from dataclasses import fields
from typing import Any

from absl import flags

from ernie_vilg_jax import cli
from ernie_vilg_jax.errors import UserError, install
from ernie_vilg_jax.paths import check_writable, local, write_atomically

_PROMPTS = flags.DEFINE_string("prompts", None, "With `create`: file of prompts: .txt, .csv, .tsv, .jsonl.")
_IMAGES = flags.DEFINE_list("images", [], "With `create`: NAME=FOLDER of each model; names are shown to no rater.")
_RATERS = flags.DEFINE_integer("raters", 0, "With `create` and `invite`: how many personal links.", lower_bound=0)
flags.DEFINE_integer(
    "most_raters", 0, "With `create`: an open link, until there are so many raters in all.", lower_bound=0
)
flags.DEFINE_string("title", "", "With `create`: shown to raters; do not name the models.")
flags.DEFINE_integer("each", 0, "With `create`: comparisons per rater; 0 is all of them.", lower_bound=0)
flags.DEFINE_integer(
    "check_every", 25, "With `create`: a check of attention about every so many comparisons; 0 is none.", lower_bound=0
)
flags.DEFINE_bool("practice", True, "With `create`: raters begin with three examples.")
flags.DEFINE_integer("pictures", 0, "With `create`: the first so many per prompt; 0 is all.", lower_bound=0)
flags.DEFINE_bool("split_languages", False, "With `create`: judge a prompt in each language on its own.")
flags.DEFINE_integer("seed", 0, "With `create`: of orders, sides and checks.", lower_bound=0)
_HOST = flags.DEFINE_string("host", "127.0.0.1", "With `serve`: address to listen at; 0.0.0.0 is open to the network.")
_PORT = flags.DEFINE_integer("port", 8000, "With `serve`: port to listen at.", lower_bound=1, upper_bound=65535)
_PUBLIC_URL = flags.DEFINE_string("public_url", None, "The address that raters type; its path may be a proxy's prefix.")

USAGE = (
    "say `create STUDY`, `serve STUDY`, `links STUDY`, `invite STUDY --raters=N`, `report STUDY FOLDER` or "
    "`export STUDY FILE.csv`; STUDY is a file, or postgresql://... (see --help)"
)


def main(argv: list[str]) -> None:
    try:
        from ernie_vilg_jax.evaluation.study import answers, overview, report
        from ernie_vilg_jax.evaluation.study.database import Database
        from ernie_vilg_jax.evaluation.study.raters import Raters
    except ModuleNotFoundError as error:
        if error.name != "sqlalchemy":
            raise
        raise UserError(f"human studies need more packages: {install('study')}") from error
    match argv[1:]:
        case ["create", place]:
            _create(place)
        case ["serve", place]:
            _serve(place)
        case ["links", place]:
            print(overview.links(Raters(Database(place)), _address()))
        case ["invite", place]:
            if not _RATERS.value:
                raise UserError("invite needs --raters=N, how many links to make")
            print(overview.personal_links(Raters(Database(place)).invite(_RATERS.value), _address()))
        case ["report", place, folder]:
            check_writable(folder, "output", "report.html")
            database = Database(place)
            tables = report.tables(answers.read(database), answers.models(database))
            report.write(tables, database.settings()["title"], local(folder, "output"))
            print(f"{folder}/report.html")
        case ["export", place, file] if file.rpartition(".")[2] in answers.WRITERS:
            check_writable(file, "output")
            found = answers.read(Database(place))
            write_atomically(local(file, "output"), answers.WRITERS[file.rpartition(".")[2]](found).encode())
            print(f"{file}: {len(found)} answers")
        case ["export", _, file]:
            raise UserError(f"{file}: answers are written as .csv or .jsonl")
        case _:
            raise UserError(USAGE)


def _address() -> str:
    address = _PUBLIC_URL.value or f"http://{_HOST.value}:{_PORT.value}"
    if not re.fullmatch(r"https?://[^/\s?#]+(/[\w./~-]*)?", address):
        raise UserError(f"--public_url={address} must be an address such as https://lab.example/study")
    return address


def _create(place: str) -> None:
    from ernie_vilg_jax.evaluation.study import creation, overview
    from ernie_vilg_jax.evaluation.study.database import Database
    from ernie_vilg_jax.evaluation.study.raters import Raters
    from ernie_vilg_jax.pipeline.prompts import read_prompts

    if _PROMPTS.value is None:
        raise UserError("--prompts is missing: name the file of prompts that the images were made of")
    chosen: dict[str, Any] = {field.name: flags.FLAGS[field.name].value for field in fields(creation.Options)}
    address, folders = _address(), creation.folders_of(_IMAGES.value)
    database = Database(place, create=True)
    creation.create(database, read_prompts(_PROMPTS.value), folders, creation.Options(**chosen))
    raters = Raters(database)
    raters.invite(_RATERS.value)
    print(overview.links(raters, address))


def _serve(place: str) -> None:
    from ernie_vilg_jax.evaluation.study.database import Database

    try:
        from ernie_vilg_jax.evaluation.study import server
    except ModuleNotFoundError as error:
        if error.name not in ("fastapi", "uvicorn"):
            raise
        raise UserError(f"the pages need more packages: {install('study')}") from error

    cli.check_free(_HOST.value, _PORT.value)
    server.serve(Database(place), _HOST.value, _PORT.value, _address())


def run() -> None:
    """Console entry point."""
    cli.run(main, positional=True)


if __name__ == "__main__":
    run()
