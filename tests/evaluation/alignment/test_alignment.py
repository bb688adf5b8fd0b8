"""The towers learn which text belongs to which image; the committed ones know the demo's things."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from ernie_vilg_jax.errors import UserError
from ernie_vilg_jax.evaluation.alignment.learning import Pairs, fit, loss
from ernie_vilg_jax.evaluation.alignment.network import AlignmentNetwork
from ernie_vilg_jax.evaluation.alignment.recall import recall, word_disjoint
from ernie_vilg_jax.evaluation.alignment.towers import BUCKETS, LENGTH, ImageTower, TextTower, tokens
from ernie_vilg_jax.evaluation.binding.drawn import DrawnChecker
from ernie_vilg_jax.evaluation.binding.nouns import EVERYDAY_NOUNS
from ernie_vilg_jax.evaluation.binding.renders import scenes
from ernie_vilg_jax.evaluation.binding.sentences import sentences
from ernie_vilg_jax.evaluation.scorers import make_scorer


def test_tokens_are_words_and_hanzi():
    rows = tokens(["A red circle!", "red   circles", "红色的圆形", "", "x " * 100])
    assert rows.shape == (5, LENGTH) and rows.dtype == np.int32
    assert rows[0, 1:3].tolist() == rows[1, :2].tolist()  # a plural is the same word
    assert (rows[2] > 0).sum() == 5 and not rows[3].any() and rows[4].all()
    assert rows.max() < BUCKETS


class Table:
    """A network that knows vectors by heart."""

    name, fingerprint = "table", "0"

    def __init__(self, images, texts):
        self.image, self.text = np.asarray(images, np.float32), np.asarray(texts, np.float32)

    def __call__(self, images):
        return self.image[[int(image) for image in images]]

    def texts(self, texts):
        return self.text[[int(text) for text in texts]]


def test_recall_counts_ranks():
    texts = np.eye(8)
    images = np.stack([texts[0], texts[1] + 2 * texts[2], texts[3] + 2 * texts[4:].sum(0) + 2 * texts[:3].sum(0)])
    found = recall(Table(images, texts), [np.asarray(k) for k in range(3)], [str(k) for k in range(8)], [0, 1, 3])
    assert (found.first, found.fifth) == pytest.approx((1 / 3, 2 / 3))
    assert (found.images, found.candidates) == (3, 8)


def test_word_disjoint_things_share_no_word():
    known = [noun for noun in EVERYDAY_NOUNS if noun.en in ("red apple", "cup of coffee", "dog")]
    names = {noun.en for noun in word_disjoint(known)}
    assert names and not any({"red", "apple", "cup", "of", "coffee", "dog"} & set(name.split()) for name in names)
    assert not {"猫头鹰"} & {noun.zh for noun in word_disjoint([n for n in EVERYDAY_NOUNS if n.en == "cat"])}


def test_equal_contents_are_no_wrong_answers():
    """Two images of one content: a batch of both has no wrong text, so that nothing is lost by mixing them up."""
    key = jax.random.key(0)
    features = jax.random.normal(key, (4, 6, 8))
    params = {
        "image": ImageTower().init(key, features)["params"],
        "text": TextTower().init(key, jnp.zeros((1, LENGTH), jnp.int32))["params"],
        "sharpness": jnp.asarray(2.0),
    }
    words = jnp.asarray(tokens(["cat", "dog", "red bus", "blue bus"]))
    same, _ = loss(params, features, words, jnp.zeros(4, int), key)
    different, _ = loss(params, features, words, jnp.arange(4), key)
    assert same == pytest.approx(0, abs=1e-5) and different > 0.5


@pytest.mark.slow  # of which compiling takes nearly all
@pytest.mark.proofs
def test_towers_learn_which_text_belongs_to_which_features():
    rng = np.random.default_rng(0)
    names = ["cat", "猫狗", "red bus", "blue bus", "一个圆形", "a star", "tree", "house"]
    meaning = rng.normal(size=(len(names), 6, 8)).astype(np.float32)
    own = np.repeat(np.arange(len(names)), 8)
    features = meaning[own] + 0.3 * rng.normal(size=(len(own), 6, 8)).astype(np.float32)
    pairs = Pairs.of(features, [tokens([names[k]]) for k in own], own.tolist())
    params = fit(pairs, steps=60, batch_size=32)
    fresh = meaning + 0.3 * rng.normal(size=meaning.shape).astype(np.float32)
    images = np.asarray(ImageTower().apply({"params": params["image"]}, jnp.asarray(fresh)))
    texts = np.asarray(TextTower().apply({"params": params["text"]}, jnp.asarray(tokens(names))))
    assert ((images @ texts.T).argmax(1) == np.arange(len(names))).mean() >= 0.9


@pytest.fixture(scope="module")
def network():
    return AlignmentNetwork()


@pytest.mark.parametrize("language", ["zh", "en"])
def test_the_committed_scorer_finds_the_prompt_of_drawn_shapes(network, language):
    """Single shapes in their colour: chance would be a few percent."""
    renders = [r for r in scenes("shapes", network.nouns, (), 55, 60) if len(r.mentions) == 1]
    nouns = {noun.en: noun for noun in network.nouns}
    texts = [sentences(r.mentions, r.relation, nouns)[language][0] for r in renders]
    candidates = list(dict.fromkeys(texts))
    found = recall(network, [r.image for r in renders], candidates, [candidates.index(text) for text in texts])
    assert found.candidates > 12 and found.first > 0.85, found


def test_scores_do_not_depend_on_the_rest_of_the_call(network):
    images = [Image.fromarray(r.image) for r in scenes("shapes", network.nouns, (), 55, 3)]
    prompts = ["a red circle", "一只猫", "a blue square above a green star"]
    scorer = make_scorer("alignment", {})
    together = scorer(images, prompts)
    expected = [
        network([np.asarray(image)])[0] @ network.texts([text])[0] for image, text in zip(images, prompts, strict=True)
    ]
    np.testing.assert_allclose(together, expected, atol=1e-6)  # towers give unit vectors


def test_another_checker_is_refused(network, tmp_path):
    checker = DrawnChecker()
    checker.file = tmp_path / "other.safetensors"
    checker.file.write_bytes(b"others")
    with pytest.raises(UserError, match="belongs to another checker"):
        AlignmentNetwork(checker=checker)
