"""No answer is lost or counted twice, whatever comes again, late, at once or from elsewhere."""

import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from ernie_vilg_jax.errors import UserError
from ernie_vilg_jax.evaluation.study import answers
from ernie_vilg_jax.evaluation.study.database import Database
from ernie_vilg_jax.evaluation.study.raters import Rater, Raters

Make = Callable[..., Database]


def again(raters: Raters, rater: Rater) -> Rater:
    found = raters.find(rater.token)
    assert found is not None
    return found


def test_all_questions_in_order_to_the_end(make_study: Make):
    database = make_study(each=2)
    raters = Raters(database)
    (rater,) = raters.invite(1)
    kinds, aspects = [], []
    while rater.answered < rater.questions:
        question = raters.question(rater, rater.answered)
        assert question is not None and question.choice == "" and question.changes == -1
        assert {len(side) for side in question.pictures} == ({1} if question.kind == "practice" else {2})
        assert all(raters.picture(id) for side in question.pictures for id in side)
        kinds.append(question.kind)
        aspects.append(question.aspect)
        raters.answer(rater, rater.answered, "left", seen=-1, milliseconds=1500)
        rater = again(raters, rater)
    assert aspects == ["alignment", "fidelity"] * (len(aspects) // 2)
    assert [kinds.count(kind) for kind in ("practice", "check", "study")] == [6, 4, 12]
    found = answers.read(database)
    assert [answer.question for answer in found] == list(range(rater.questions))
    assert all((one.left == one.right) == (one.kind != "study") for one in found)
    assert {one.milliseconds for one in found} == {1500} and raters.question(rater, rater.questions) is None


def test_the_first_answer_counts_and_a_repeated_post_changes_nothing(make_study: Make):
    raters = Raters(database := make_study())
    (rater,) = raters.invite(1)
    for choice in ("left", "right", "left"):  # a double click, a reload, a second device with the same page
        raters.answer(again(raters, rater), 0, choice, seen=-1)
    (answer,) = answers.read(database)
    assert (answer.choice, answer.changes) == ("left", 0)


def test_going_back_changes_an_answer_once_for_each_page_seen(make_study: Make):
    raters = Raters(database := make_study())
    (rater,) = raters.invite(1)
    raters.answer(rater, 0, "left", seen=-1)
    rater = again(raters, rater)
    question = raters.question(rater, 0)
    assert question is not None and (question.choice, question.changes) == ("left", 0)
    raters.answer(rater, 0, "same", seen=0)
    raters.answer(rater, 0, "right", seen=0)  # from a page that is out of date by now
    raters.answer(rater, 0, "left", seen=-1)  # the first post, again
    (answer,) = answers.read(database)
    assert (answer.choice, answer.changes) == ("same", 1) and again(raters, rater).answered == 1


@pytest.mark.parametrize("number", [-1, 1, 2, 10**6])
def test_questions_that_are_not_asked_yet_cannot_be_answered(make_study: Make, number: int):
    raters = Raters(database := make_study())
    (rater,) = raters.invite(1)
    with pytest.raises(UserError, match="not asked yet"):
        raters.answer(rater, number, "left", seen=-1)
    assert not answers.read(database)


@pytest.mark.parametrize("choice", ["", "both", "LEFT", "'; DROP TABLE answers; --"])
def test_other_choices_are_refused(make_study: Make, choice: str):
    raters = Raters(database := make_study())
    with pytest.raises(UserError, match="left, same, right"):
        raters.answer(raters.invite(1)[0], 0, choice, seen=-1)
    assert not answers.read(database)


@pytest.mark.parametrize(("milliseconds", "kept"), [(-1, None), (0, 0), (10**9, None), (None, None)])
def test_times_that_cannot_be_are_not_kept(make_study: Make, milliseconds: int | None, kept: int | None):
    raters = Raters(database := make_study())
    raters.answer(raters.invite(1)[0], 0, "left", seen=-1, milliseconds=milliseconds)
    assert answers.read(database)[0].milliseconds == kept


def test_raters_that_join_at_once_all_differ_and_are_as_many_as_allowed(make_study: Make):
    raters = Raters(make_study(most_raters=9))
    with ThreadPoolExecutor(16) as pool:
        joined = [rater for rater in pool.map(lambda _: raters.join(), range(16)) if rater]
    assert sorted(rater.number for rater in joined) == list(range(9)) and len({one.token for one in joined}) == 9
    assert raters.join() is None and len(raters.all()) == 9


def test_answers_at_once_are_all_kept_once(make_study: Make):
    raters = Raters(database := make_study(check_every=0, practice=False))
    people = raters.invite(4)

    def work(job: tuple[Rater, str]) -> None:
        rater, choice = job
        for number in range(rater.questions):
            raters.answer(again(raters, rater), number, choice, seen=-1)

    with ThreadPoolExecutor(8) as pool:  # each rater on two devices
        done = [pool.submit(work, (one, choice)) for one in people for choice in ("left", "right")]
        for one in done:
            one.result()
    found = answers.read(database)
    assert len(found) == len({(one.rater, one.question) for one in found}) == 4 * 12
    assert {one.changes for one in found} == {0}


def test_the_language_of_an_answer_is_the_one_that_was_read(make_study: Make):
    raters = Raters(database := make_study(practice=False))
    (rater,) = raters.invite(1)
    raters.speak(rater, "zh")
    raters.answer(again(raters, rater), 0, "left", seen=-1)
    raters.speak(rater, "en")
    raters.answer(again(raters, rater), 1, "left", seen=-1)
    assert [one.language for one in answers.read(database)] == ["zh", "en"]


def test_the_file_is_in_wal_mode_and_every_commit_is_on_the_disk(make_study: Make):
    database = make_study()
    with sqlite3.connect(database.place) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    with database.reading() as own:
        assert own.exec_driver_sql("PRAGMA synchronous").scalar() == 2  # FULL
        assert own.exec_driver_sql("PRAGMA foreign_keys").scalar() == 1


def test_exports_hold_every_answer_and_no_name(make_study: Make):
    raters = Raters(database := make_study())
    (rater,) = raters.invite(1)
    raters.start(rater, "=cmd()", "zh")
    raters.answer(rater, 0, "left", seen=-1)
    found = answers.read(database)
    csv, jsonl = answers.as_csv(found), answers.as_jsonl(found)
    assert csv.startswith("rater,question,kind,item,") and len(csv.splitlines()) == 2 and len(jsonl.splitlines()) == 1
    assert "cmd" not in csv + jsonl and rater.token not in csv + jsonl
