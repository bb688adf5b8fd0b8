"""Prompts in other languages."""

from pathlib import Path
from typing import Any

import pytest

from ernie_vilg_jax.errors import UserError
from ernie_vilg_jax.pipeline import languages
from ernie_vilg_jax.pipeline.languages import Languages, is_foreign, translation


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, dict[str, Any]]]:
    """The translators that were read, with their options; they put the text into brackets."""
    found: list[tuple[str, dict[str, Any]]] = []

    class Translator:
        def __init__(self, model: str, **options: Any) -> None:
            found.append((model, options))

        def translate(self, texts: list[str]) -> list[str]:
            return [f"[{text}]" for text in texts]

    monkeypatch.setattr(languages, "HubTranslator", Translator)
    return found


def test_other_languages_are_detected() -> None:
    assert not any(map(is_foreign, ("一只猫", "a cat, 3D!", "５ｃｍ的ＣＡＴ", "🐱")))
    assert all(map(is_foreign, ("ein Bär", "кошка", "고양이", "ねこ", "a cat 고양이")))


def test_a_model_is_read_once_and_only_for_foreign_prompts(read: list[Any]) -> None:
    translate = translation("org/model, source=deu_Latn,target=eng_Latn")
    assert translate("a cat") == "a cat" and not read
    assert [translate("ein Bär"), translate("кошка")] == ["[ein Bär]", "[кошка]"]
    assert translation("org/model, source=deu_Latn,target=eng_Latn") is translate
    assert read == [("org/model", {"source": "deu_Latn", "target": "eng_Latn"})]


def test_a_function_is_taken_as_it_is_and_nothing_changes_nothing() -> None:
    assert translation(str.upper) is str.upper
    assert translation(None)("кошка") == "кошка"


@pytest.mark.parametrize("spec", ["model,source", "model,beams=3", "model,source=", "model,x"])
def test_other_words_after_the_model_are_one_sentence(spec: str) -> None:
    with pytest.raises(UserError, match="must be one of source=CODE, target=CODE and prefix=TEXT, after the model"):
        Languages(spec)


def test_a_translator_that_cannot_be_read_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="Prompts can be in Chinese or English only"):
        Languages(str(tmp_path / "none"))("кошка")
