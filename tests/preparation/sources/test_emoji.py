"""The emoji source on a tiny npm cache made here: packages of the real layout, with art of our own."""

import base64
import dataclasses
import functools
import hashlib
import http.server
import io
import json
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ml_collections import ConfigDict
from PIL import Image

from ernie_vilg_jax.data.loader import check_data
from ernie_vilg_jax.data.records import open_split
from ernie_vilg_jax.errors import UserError
from ernie_vilg_jax.preparation import prepare as preparation
from ernie_vilg_jax.preparation.sources import emoji, everyday, npm, scenes, styles
from ernie_vilg_jax.preparation.sources.emoji import EmojiSource
from ernie_vilg_jax.preparation.sources.scenes import SceneSource
from tests.small_data import records_of

NAMES = {"🐼": ("panda", "熊猫"), "🐈": ("cat", "猫"), "🚗": ("automobile", "汽车"), "🍎": ("red apple", "红苹果")}
FACE = {"😀": ("grinning face", "嘿嘿"), "👍🏻": ("thumbs up: light skin tone", "拇指向上: 较浅肤色")}


def tarball(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(f"package/{name}")
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def annotations_package(language_files: str, root: str, entries: dict[str, tuple[str, str]]) -> bytes:
    files = {}
    for column, language in ((0, "en"), (1, "zh")):
        named = {e: {"default": [pair[column], "word"], "tts": [pair[column]]} for e, pair in entries.items()}
        files[f"{language_files}/{language}/annotations.json"] = json.dumps({root: {"annotations": named}}).encode()
    return tarball(files)


def icons(missing: str = "") -> bytes:
    colours = dict(zip(NAMES, ("#ff0000", "#00ff00", "#0000ff", "currentColor"), strict=True))
    names = {e: f"icon-{k}" for k, e in enumerate(NAMES) if e != missing}
    body = {names[e]: {"body": f'<rect x="8" y="8" width="16" height="16" fill="{colours[e]}"/>'} for e in names}
    data = {"icons": body, "aliases": {"cat": {"parent": "icon-1"}}, "width": 32, "height": 32}
    chars = {emoji.code_points(e): names[e] for e in names if e != "🐈"}  # the cat is found by name
    return tarball({"icons.json": json.dumps(data).encode(), "chars.json": json.dumps(chars).encode()})


def webp() -> bytes:
    buffer = io.BytesIO()
    image = Image.new("RGBA", (64, 64), (0, 0, 0, 0))
    image.paste((255, 0, 255, 255), (16, 16, 48, 48))
    image.save(buffer, "WEBP", lossless=True)
    return buffer.getvalue()


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache that holds every package of the source, whose hashes the code expects."""
    monkeypatch.setenv("ERNIE_VILG_JAX_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "cache" / "npm"
    folder.mkdir(parents=True)

    def put(package: npm.Package, content: bytes) -> npm.Package:
        (folder / package.filename).write_bytes(content)
        digest = base64.b64encode(hashlib.sha512(content).digest()).decode()
        return dataclasses.replace(package, integrity=f"sha512-{digest}")

    base = put(styles.CLDR, annotations_package("annotations", "annotations", NAMES | FACE))
    derived = put(styles.CLDR_DERIVED, annotations_package("annotationsDerived", "annotationsDerived", FACE))
    for module in (emoji, styles):
        monkeypatch.setattr(module, "CLDR", base)
        monkeypatch.setattr(module, "CLDR_DERIVED", derived)
    for name, style in list(styles.STYLES.items()):
        raster = {f"assets/{emoji.code_points(e)}.webp": webp() for e in NAMES}
        content = tarball(raster) if name == styles.RASTER else icons("🚗" if name in ("noto", "fxemoji") else "")
        monkeypatch.setitem(styles.STYLES, name, dataclasses.replace(style, package=put(style.package, content)))
    for cached in (emoji.cldr_names, emoji.icon_set, scenes._silhouette):
        cached.cache_clear()
    return folder


@pytest.fixture(autouse=True)
def _forget(cache: Path) -> Any:
    yield
    for cached in (emoji.cldr_names, emoji.icon_set, scenes._silhouette):
        cached.cache_clear()


def colour_at_centre(image: bytes) -> tuple[int, ...]:
    pixels = np.asarray(Image.open(io.BytesIO(image)))
    assert (pixels[0, 0] == 255).all()
    return tuple(int(value) for value in pixels[pixels.shape[0] // 2, pixels.shape[1] // 2])


def test_every_concept_comes_in_each_style_that_has_it():
    source = EmojiSource(size=16)
    keys = records_of(source)
    assert len(keys) == len({key.id for key in keys}) == 4 * 9 - 2 - 1  # no cars in two styles, no cat in fxemoji
    assert keys[0].id == "emoji/noto/1f408" and keys[0].concept == "emoji/1f408"
    assert all("1f600" not in key.concept for key in keys)  # no faces among the everyday things


def test_images_are_rendered_on_white_at_the_size():
    source = EmojiSource(size=24)
    pictures = {record.id: record for record in records_of(source)}
    assert Image.open(io.BytesIO(pictures["emoji/noto/1f43c"].image)).size == (24, 24)
    assert colour_at_centre(pictures["emoji/noto/1f43c"].image) == (255, 0, 0)
    assert colour_at_centre(pictures["emoji/twemoji/1f408"].image) == (0, 255, 0)
    assert colour_at_centre(pictures["emoji/twemoji/1f34e"].image) == (17, 17, 17)  # currentColor
    assert colour_at_centre(pictures["emoji/fluent-emoji-3d/1f408"].image) == (255, 0, 255)


def test_captions_name_the_thing_and_its_look():
    source = EmojiSource(size=16, styles=("twemoji",))
    record = next(record for record in records_of(source) if record.id.endswith("1f43c"))
    assert record.captions == {
        "zh": ["熊猫", "一只熊猫", "一幅熊猫的图画", "熊猫，推特风格", "一只熊猫，推特风格"],
        "en": ["panda", "a panda", "a picture of a panda", "panda, Twitter style", "a panda, Twitter style"],
    }
    assert record.licence == "CC-BY-4.0"
    assert record.keywords == {"zh": ["熊猫", "word"], "en": ["panda", "word"]}


def test_all_concepts_take_the_cldr_names_without_skin_tones():
    source = EmojiSource(size=16, styles=("twemoji",), concepts="all")
    records = records_of(source)
    assert {record.captions["en"][0] for record in records} == {en for en, _ in NAMES.values()}


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("flag: China", "flag of China"),
        ("旗: 中国", "中国的旗帜"),
        ("family: woman, boy", "family, woman, boy"),
        ("家庭: 女人男孩", "家庭，女人男孩"),
        ("panda", "panda"),
    ],
)
def test_cldr_names_are_said_plainly(name: str, plain: str):
    assert emoji.plain_name(name) == plain


def test_options_limit_and_decide_the_fingerprint():
    limited = EmojiSource(max_concepts=2)
    assert {record.concept for record in records_of(limited)} == {"emoji/1f408", "emoji/1f43c"}
    variants = [EmojiSource(), EmojiSource(size=32), EmojiSource(max_concepts=2), EmojiSource(concepts="all")]
    assert len({variant.fingerprint() for variant in variants}) == 4
    with pytest.raises(UserError, match="no style 'apple'"):
        EmojiSource(styles=("apple",))
    with pytest.raises(UserError, match="concepts='some'"):
        EmojiSource(concepts="some")


def test_scenes_recolour_silhouettes_and_share_the_split_units():
    source = SceneSource(size=64, count=12, objects="emoji", simple=True, single=1.0)
    for index, record in enumerate(records_of(source)):
        colour = source.plan(index).things[0].colour
        x0, y0, x1, y1 = (round(v * 64) for v in record.objects[0]["box"])
        centre = np.asarray(Image.open(io.BytesIO(record.image)))[(y0 + y1) // 2, (x0 + x1) // 2]
        assert tuple(int(v) for v in centre) == scenes.COLOURS[colour][1]
        assert record.concept in {"emoji/1f43c", "emoji/1f408", "emoji/1f697"}  # a red apple is not recoloured


def test_prepared_emoji_can_be_trained_on(config: ConfigDict, tmp_path: Path):
    config.data.sources = (ConfigDict({"name": "emoji"}), ConfigDict({"name": "scenes", "count": 30}))
    config.data.holdout_fraction = 0.2
    config.data.path = str(tmp_path / "out")
    manifest = preparation.prepare(config, config.data.path)
    check_data(config)
    assert set(manifest["splits"]["train"]["by_source"]) == {"emoji", "scenes"}
    concepts = {split: set() for split in ("train", "holdout")}
    for split, found in concepts.items():
        source = open_split(config.data.path, split)
        found |= {source[i].concept for i in range(len(source)) if source[i].source == "emoji"}
    assert concepts["train"] and concepts["holdout"] and not concepts["train"] & concepts["holdout"]
    licences = (tmp_path / "out" / "LICENCES.md").read_text()
    assert "CC-BY-4.0" in licences and "Unicode-3.0" in licences and "@iconify-json/noto" in licences


def test_an_unreachable_registry_is_reported(cache: Path, monkeypatch: pytest.MonkeyPatch):
    (cache / styles.STYLES["noto"].package.filename).unlink()
    monkeypatch.setenv("NPM_CONFIG_REGISTRY", "http://127.0.0.1:9/")
    with pytest.raises(UserError, match=r"@iconify-json/noto@1\.2\.9 could not be fetched .*or use the drawn shapes"):
        records_of(EmojiSource())
    assert not [file for file in cache.iterdir() if "noto-1.2.9" in file.name]


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder that a registry on this machine serves."""
    folder = tmp_path / "registry"
    folder.mkdir()
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("NPM_CONFIG_REGISTRY", f"http://127.0.0.1:{server.server_port}")
        yield folder
        server.shutdown()


@pytest.mark.parametrize("before", ["nothing", "damage"])
def test_a_package_comes_from_the_registry(before: str, cache: Path, registry: Path):
    package = styles.STYLES["noto"].package
    file = cache / package.filename
    published = registry / "@iconify-json/noto/-/noto-1.2.9.tgz"
    published.parent.mkdir(parents=True)
    published.write_bytes(content := file.read_bytes())
    if before == "nothing":
        file.unlink()
    else:
        file.write_bytes(content[:100])
    assert records_of(EmojiSource()) and file.read_bytes() == content


def test_a_package_with_another_hash_is_refused(cache: Path, registry: Path):
    file = cache / styles.STYLES["noto"].package.filename
    published = registry / "@iconify-json/noto/-/noto-1.2.9.tgz"
    published.parent.mkdir(parents=True)
    published.write_bytes(file.read_bytes() + b"\0")
    file.unlink()
    with pytest.raises(UserError, match=r"does not have the hash pinned for @iconify-json/noto@1\.2\.9: run again"):
        records_of(EmojiSource())
    assert not file.exists()


def test_everyday_names_are_distinct_in_both_languages():
    concepts = list(everyday.EVERYDAY.values())
    assert not any("\ufe0f" in concept.emoji for concept in concepts)
    assert len(concepts) > 200
    assert len({c.en for c in concepts}) == len({c.zh for c in concepts}) == len(concepts)
    assert all(c.measure and c.zh.strip() == c.zh and c.en.strip() == c.en for c in concepts)
    phrases = {c.en: c.en_phrase for c in concepts}
    assert phrases["owl"] == "an owl" and phrases["unicorn"] == "a unicorn" and phrases["grapes"] == "grapes"


@pytest.mark.network
def test_the_real_packages_match_the_pinned_hashes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.undo()
    monkeypatch.setenv("ERNIE_VILG_JAX_CACHE", str(tmp_path / "fresh"))
    source = EmojiSource(size=32)
    assert source.total > 2500
    assert colour_at_centre(source.record(0).image)
