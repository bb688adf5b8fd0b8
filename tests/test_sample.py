"""The command `sample`: flags to options, settings inside the images, progress, and sentences that name flags."""

import io
import struct
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from absl import flags
from absl.testing import flagsaver
from PIL import Image
from safetensors.numpy import save_file

from ernie_vilg_jax import pipeline, sample
from ernie_vilg_jax.errors import UserError
from ernie_vilg_jax.pipeline import Pipeline, Progress


@pytest.fixture
def command(pipe: Pipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """command("--seed=1", ...) -> the folder of images; with the model of these tests."""
    monkeypatch.setattr(pipeline, "load", lambda path, mode, mesh, lora, scale: pipe)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    def run(*arguments: str) -> Path:
        with flagsaver.flagsaver():
            flags.FLAGS(["sample", f"--output={tmp_path / 'out'}", *arguments])
            sample.main(["sample"])
        return tmp_path / "out"

    return run


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)).save(tmp_path / "cat.png")
    mask = Image.new("L", (16, 16))
    mask.paste(255, (8, 0, 16, 16))
    mask.save(tmp_path / "mask.png")
    return tmp_path / "cat.png"


def png_header(width: int, height: int) -> bytes:
    """The beginning of a PNG that claims to be so large."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = b"IDAT" + zlib.compress(bytes(1000))
    chunks = (struct.pack(">I", len(one) - 4) + one + struct.pack(">I", zlib.crc32(one)) for one in (header, body))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def same(path: Path, image: Image.Image) -> bool:
    return bool(np.all(np.asarray(Image.open(path)) == np.asarray(image)))


def test_all_settings_reach_the_images_and_their_metadata(command: Any, pipe: Pipeline) -> None:
    scales = "--guidance_interval=100,900", "--guidance_rescale=0.5", "--dynamic_threshold=99", "--stage_scales=2,3"
    how = "--steps=4", "--sampler=unipc", "--grid=karras", "--guidance_scale=2.5", "--seed=5", "--num_images=2"
    folder = command("--prompt=一只猫", "--prompt=a dog", "--negative_prompt=red", *scales, *how)
    expected: dict[str, Any] = {
        "guidance_interval": (100, 900), "guidance_rescale": 0.5, "dynamic_threshold": 99.0, "stage_scales": (2.0, 3.0),
        "steps": 4, "sampler": "unipc", "grid": "karras", "guidance_scale": 2.5, "seed": 5,
    }  # fmt: skip
    images = pipe(["一只猫", "a dog"], num_images=2, negative_prompt="red", **expected)
    assert all(same(folder / f"{number:03d}.png", image) for number, image in enumerate(images))
    settings = {
        "negative_prompt": "red", "seed": "5", "steps": "4", "sampler": "unipc",
        "grid": "karras", "guidance_scale": "2.5", "guidance_rescale": "0.5", "guidance_interval": "[100, 900]",
        "dynamic_threshold": "99.0", "stage_scales": "[2.0, 3.0]",
    }  # fmt: skip
    assert text_of(folder / "002.png") == {"prompt": "a dog", "number": "2", **settings}
    assert text_of(folder / "grid.png") == {"prompts": '["一只猫", "a dog"]', **settings}


def text_of(path: Path) -> dict[str, str]:
    """The text chunks of a PNG."""
    with Image.open(path) as image:
        image.load()
        return dict(getattr(image, "text"))  # noqa: B009 (only PNGs have it)


@pytest.mark.parametrize("prompt", ["a\tcat\nand a dog", "é", "🐼", "x" * 3000, 'key=value; \\ "quoted"'])
def test_any_prompt_is_read_back_from_the_images(prompt: str, command: Any) -> None:
    folder = command(f"--prompt={prompt}", "--steps=1")
    assert text_of(folder / "000.png")["prompt"] == text_of(folder / "grid.png")["prompt"] == prompt


def test_without_flags_it_takes_the_prompts_and_settings_of_the_checkpoint(command: Any, pipe: Pipeline) -> None:
    folder = command()
    prompts = list(pipe.config.train.preview_prompts)
    assert [Image.open(folder / f"{number:03d}.png").info["prompt"] for number in range(len(prompts))] == prompts
    assert all(same(folder / f"{number:03d}.png", image) for number, image in enumerate(pipe(prompts)))


def test_from_an_image_with_and_without_a_mask(command: Any, pipe: Pipeline, picture: Path) -> None:
    image, mask = Image.open(picture), Image.open(picture.with_name("mask.png"))
    made = command("--prompt=一只猫", f"--image={picture}", "--strength=0.4") / "000.png"
    assert same(made, pipe.image_to_image("一只猫", image, strength=0.4)[0])
    for file in (made, made.with_name("grid.png")):
        assert text_of(file)["image"] == "cat.png" and text_of(file)["strength"] == "0.4"
    made = command("--prompt=一只猫", f"--image={picture}", f"--mask={mask.filename}") / "000.png"
    assert same(made, pipe.inpaint("一只猫", image, mask)[0])
    assert Image.open(made).info["mask"] == "mask.png" and "strength" not in Image.open(made).info


def test_progress_on_a_terminal_only(command: Any, pipe: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    shown = io.StringIO()
    monkeypatch.setattr(sys, "stderr", shown)
    folder = command("--prompt=一只猫", "--steps=3")
    assert shown.getvalue() == ""
    before = Image.open(folder / "000.png").tobytes()
    monkeypatch.setattr(sys, "stderr", shown := Terminal())
    assert Image.open(command("--prompt=一只猫", "--steps=3") / "000.png").tobytes() == before
    lines = [line.strip() for line in shown.getvalue().split("\r")[1:]]
    assert lines[0] == "step 1/3  t=999  expert 1"
    assert lines[1].startswith("step 2/3  t=666  expert 1  ") and lines[1].endswith("s left")
    assert lines[2:] == ["", ""], "at the end the line is wiped"


def test_the_rate_does_not_count_compiling(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([100.0, 100.5, 101.0])
    monkeypatch.setattr(sample.time, "monotonic", lambda: next(clock))
    line = sample.ProgressLine(stream := io.StringIO())
    for step in (1, 2, 3):
        line(Progress(step, 10, 999 - step, 3, list))
    assert stream.getvalue().split("\r")[-1].strip() == "step 3/10  t=996  expert 3  2.0 steps/s  4 s left"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--steps=0"], "^--steps=0 must be a whole number from 1 up"),
        (["--height=18"], r"^--height=18 must be a multiple of 4 \(.*\): 16 and 20 are the nearest$"),
        (["--guidance_scale=nan"], "^--guidance_scale=nan must be a number"),
        (["--guidance_scale=-1"], "^--guidance_scale=-1.0 must be a number from 0 up"),
        (["--guidance_interval=low"], "^--guidance_interval=low must be numbers with commas, such as --guidance_int"),
        (["--stage_scales=1,2,3"], "^--stage_scales: 3 scales were given, but the model has 2 stages"),
        (["--sampler=magic"], "^--sampler='magic' must be one of ddpm"),
        (["--negative_prompt=a", "--negative_prompt=b"], "^--negative_prompt: 2 were given for 1 prompts"),
        (["--mask=mask.png"], "^--mask is for a picture to begin from; give one with --image=FILE"),
        (["--strength=0.5"], "^--strength is for a picture to begin from"),
        (["--image=nowhere.png"], "^--image=nowhere.png cannot be read: No such file or directory; give a PNG or JPEG"),
        (["--image=words.txt"], "^--image=words.txt cannot be read: it is no image, or a damaged one"),
        (
            ["--image=large.png"],
            "^--image=large.png cannot be read: it has more pixels than can be handled, .* 179 mil",
        ),
        (["--image=cut.png"], "^--image=cut.png cannot be read: it is damaged"),
        (["--image=folder"], "^--image=folder cannot be read: Is a directory; give a PNG or JPEG file"),
        (["--output=words.txt"], "^--output=words.txt cannot be written .words.txt: file exists; a file is where a"),
        (["--output=words.txt/x"], "^--output=words.txt/x cannot be written .words.txt/x: not a directory; a file is"),
        (["--output=blocked"], "^--output=blocked cannot be written .blocked/grid.png: is a directory; a file belongs"),
        (["--image=cat.png", "--mask=small.png"], "^--mask: the mask is 8x8 pixels and the image 16x16"),
        (["--image=cat.png", "--strength=2"], "^--strength=2.0 must be a number above 0"),
        (["--style=cubism"], "^--style='cubism' is not known; choose from "),
        (["--translate=model,source"], "^--translate=model,source: 'source' must be one of source=CODE"),
        (["--again=cat.png"], "^--again has a prompt of its own: leave out --prompt"),
        (["--prompts=words.txt", "--style=anime"], "^--prompts is for text to image alone: leave out --prompt"),
        (["--prompt="], "^--prompt: one is empty; say what the image should show, such as --prompt="),
    ],
)
def test_mistakes_name_the_flag(
    command: Any, picture: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    monkeypatch.chdir(picture.parent)
    Image.new("L", (8, 8), 255).save("small.png")
    Path("words.txt").write_text("a cat")
    Path("large.png").write_bytes(png_header(30_000, 30_000))
    Path("cut.png").write_bytes(picture.read_bytes()[:200])
    Path("folder").mkdir()
    Path("blocked/grid.png").mkdir(parents=True)
    if arguments[0].startswith(("--output", "--image=large")):  # reported before a model is loaded
        monkeypatch.setattr(pipeline, "load", None)
    with pytest.raises(UserError, match=message):
        command("--prompt=一只猫", *arguments)


@pytest.fixture
def whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """whole("--seed=1", ...) -> the folder of images; with the model that the flags name."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> Path:
        with flagsaver.flagsaver():
            flags.FLAGS(["sample", "--steps=1", *arguments])
            sample.main(["sample"])
        return tmp_path

    return run


def test_adapters_are_added_to_the_model(whole: Any, bank: Path, adapters: Path, pipe: Pipeline) -> None:
    folder = whole(f"--checkpoint={bank}", f"--lora={adapters}", "--lora_scale=0.5", "--prompt=一只猫", "--output=one")
    wanted = pipeline.load(bank, lora=adapters, scale=0.5)("一只猫", steps=1)[0]
    assert same(folder / "one/000.png", wanted)
    assert not same(folder / "one/000.png", pipe("一只猫", steps=1)[0])
    # Also those of a file of prompts, which are not those of another scale.
    (folder / "prompts.txt").write_text("一只猫\n", encoding="utf-8")
    many = f"--checkpoint={bank}", f"--lora={adapters}", "--prompts=prompts.txt", "--output=many"
    whole(*many, "--lora_scale=0.5")
    (made,) = (folder / "many").glob("*_0.png")
    assert same(made, wanted)
    with pytest.raises(UserError, match=r"^many has images of another evaluation: weights was"):
        whole(*many)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--lora=nowhere", r"^--lora=nowhere: there is no such folder"),
        ("--lora=nowhere.safetensors", r"^--lora=nowhere\.safetensors: there is no such file$"),
        ("--lora=notes.txt", r"^--lora=notes\.txt: it is neither a"),
        ("--lora=BANK", r"^--lora=\S+ is a whole model, not adapters"),
        ("--lora=empty.safetensors", r"^--lora=empty\.safetensors holds no tensors"),
        ("--lora=other.safetensors", r"^--lora=other\.safetensors has adapters of another network: 1 of its 1 modules"),
        ("--lora=hf://model", r"^--lora=hf://model must be hf://OWNER/NAME"),
        ("--lora=ADAPTERS --lora_scale=nan", r"^--lora_scale=nan must be a number"),
        ("--lora_scale=0.5", r"^--lora_scale=0\.5 is of adapters, and there are none: name some with --lora$"),
        ("--checkpoint=ADAPTERS --lora=ADAPTERS", r"^--checkpoint=\S+ has adapters itself: .* one of them as --lora;"),
    ],
)
@pytest.mark.parametrize("many", [False, True])
def test_adapters_that_do_not_fit_name_the_flag(
    many: bool, arguments: str, message: str, whole: Any, bank: Path, adapters: Path, tmp_path: Path
) -> None:
    (tmp_path / "notes.txt").write_text("一只猫\n", encoding="utf-8")
    save_file({}, tmp_path / "empty.safetensors")
    save_file({"lora_unet_attic.lora_up.weight": np.zeros((2, 2), np.float32)}, tmp_path / "other.safetensors")
    given = arguments.replace("BANK", str(bank)).replace("ADAPTERS", str(adapters)).split()
    with pytest.raises(UserError, match=message):
        whole(f"--checkpoint={bank}", "--prompts=notes.txt" if many else "--prompt=一只猫", *given)


def test_an_image_is_made_again_and_changed(command: Any, pipe: Pipeline, picture: Path, tmp_path: Path) -> None:
    folder = command("--prompt=一只猫", "--prompt=a dog", "--seed=5", "--steps=4", "--style=油画", "--num_images=2")
    before = (folder / "003.png").rename(tmp_path / "dog.png")
    assert text_of(before)["prompt"] == "a dog, oil painting"
    made = command(f"--again={before}") / "000.png"
    assert text_of(made) == text_of(before)
    assert np.abs(np.asarray(Image.open(made), int) - np.asarray(Image.open(before), int)).max() <= 1
    assert text_of(command(f"--again={before}", "--seed=6") / "000.png") == {**text_of(before), "seed": "6"}
    before = (command("--prompt=一只猫", f"--image={picture}", "--strength=0.4") / "000.png").rename(before)
    assert text_of(command(f"--again={before}", f"--image={picture}") / "000.png") == text_of(before)
    with pytest.raises(UserError, match=r"^--image: the image was made from one, .*; give it as --image="):
        command(f"--again={before}")


@pytest.mark.parametrize(
    ("message", "flags"),
    [
        (
            "mode='pipelined' needs groups: use mesh={'expert': 2}, or mode='streamed'",
            "--mode=pipelined needs groups: use --mesh=expert=2, or --mode=streamed",
        ),
        ("mesh: it has no axis x", "--mesh: it has no axis x"),
        ("checkpoint=runs/x: there is none", "--checkpoint=runs/x: there is none"),
        ("checkpoint runs/x is damaged", "checkpoint runs/x is damaged"),
        ("notes: what does not name an argument stays", "notes: what does not name an argument stays"),
        ("prompt: there is none, such as prompt=一只猫", "--prompt: there is none, such as --prompt=一只猫"),
        ("the mask is 8x8", "--mask: the mask is 8x8"),
        ("lora=x: there is no such file", "--lora=x: there is no such file"),
        ("scale=0.5 is of adapters: name some with lora", "--lora_scale=0.5 is of adapters: name some with --lora"),
        ("checkpoint=x has some: give one as lora", "--checkpoint=x has some: give one as --lora"),
        ("guidance_scale=x must be a number", "--guidance_scale=x must be a number"),
    ],
)
def test_arguments_become_flags(message: str, flags: str) -> None:
    assert sample.shared_flags.as_flags(message) == flags
