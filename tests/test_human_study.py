"""`human_study` as a command: from images to links, answers and a report; and its errors."""

from pathlib import Path

import pytest

pytest.importorskip("sqlalchemy", reason="human studies need the extra `study`")

from ernie_vilg_jax.evaluation.study.database import Database
from ernie_vilg_jax.evaluation.study.raters import Raters
from tests.commands import run_all
from tests.evaluation.study.conftest import write_images, write_prompts


@pytest.mark.documents
def test_from_images_to_a_report(tmp_path: Path):
    names = [f"{n:05d}_{k}" for n in range(6) for k in range(2)]
    images = ",".join(f"{name}={write_images(tmp_path / name, names, n)}" for n, name in enumerate(("ours", "theirs")))
    prompts, study = f"--prompts={write_prompts(tmp_path / 'v.csv')}", str(tmp_path / "study.db")
    public = "--public_url=https://lab.example/s/"
    made, again, links, invited, early, unnamed, two, alone, kind, address = run_all(
        [
            ["human_study", "create", study, prompts, f"--images={images}", "--raters=2", public],
            ["human_study", "create", study, prompts, f"--images={images}"],
            ["human_study", "links", study, public],
            ["human_study", "invite", study, "--raters=1"],
            ["human_study", "report", study, str(tmp_path / "report")],
            ["human_study", "create", str(tmp_path / "b.db"), prompts, f"--images={tmp_path}"],
            ["human_study", "serve", str(tmp_path / "none.db")],
            ["human_study", "watch", study],
            ["human_study", "export", study, "answers.xlsx"],
            ["human_study", "links", study, "--public_url=lab.example/s"],
        ]
    )
    assert made.status == 0, made.stderr
    assert made.stdout == links.stdout and made.stdout.count("https://lab.example/s/r/") == 2
    assert "http://127.0.0.1:8000/r/" in invited.stdout
    for result, message in [
        (again, "holds a study already"), (early, "no rater has judged anything yet"), (unnamed, "NAME=FOLDER"),
        (two, "there is no such study"), (alone, "say `create STUDY`"), (kind, "written as .csv or .jsonl"),
        (address, "must be an address such as https://"),
    ]:  # fmt: skip
        assert result.status == 1 and message in result.stderr and result.stderr.count("\n") == 1, result
    raters = Raters(Database(study))
    for rater in raters.all()[:2]:
        for number in range(rater.questions):
            raters.answer(rater._replace(answered=number), number, "left", seen=-1)
    report, export = run_all(
        [
            ["human_study", "report", study, str(tmp_path / "report")],
            ["human_study", "export", study, str(tmp_path / "answers.jsonl")],
        ]
    )
    assert report.status == export.status == 0, report.stderr + export.stderr
    assert "Which model was preferred" in (tmp_path / "report" / "report.html").read_text()
    assert len((tmp_path / "answers.jsonl").read_text().splitlines()) == 2 * raters.all()[0].questions
