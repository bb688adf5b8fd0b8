"""One boundary for images: for any file, the model sees the same as a viewer."""

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms

from ernie_vilg_jax.errors import UserError
from ernie_vilg_jax.images import decode_image, open_image, square, square_mask, to_rgb

GREY = np.linspace(0, 255, 64).astype(np.uint8).reshape(8, 8)


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def pixels(data: bytes) -> np.ndarray:
    image = decode_image(data)
    assert image.mode == "RGB"
    return np.asarray(image).astype(int)


def colour(rgb: tuple[int, ...], mode: str = "RGB") -> Image.Image:
    return Image.new(mode, (8, 8), rgb)


@pytest.mark.parametrize(
    ("image", "kind"),
    [
        (Image.fromarray(GREY), "PNG"),
        (Image.fromarray(GREY.astype(np.uint16) * 257), "PNG"),
        (Image.fromarray(GREY.astype(np.int32)), "TIFF"),
        (Image.fromarray(GREY.astype(np.int32) * 257), "TIFF"),
        (Image.fromarray(GREY.astype(np.float32) / 255), "TIFF"),
        (Image.fromarray(GREY.astype(np.float32)), "TIFF"),
        (Image.fromarray(np.stack([GREY, np.full_like(GREY, 255)], -1), "LA"), "PNG"),
        (Image.fromarray(GREY).convert("P"), "PNG"),
        (Image.fromarray(np.stack([GREY] * 3, -1)), "PNG"),
    ],
    ids=["L", "16 bits", "I up to 255", "I of 16 bits", "F up to 1", "F up to 255", "LA", "P", "RGB"],
)
def test_grey_is_the_same_grey_in_every_mode(image: Image.Image, kind: str) -> None:
    assert np.abs(pixels(encoded(image, kind)) - GREY[..., None]).max() <= 1


def test_16_bits_are_not_cut_off_at_255() -> None:
    dark = Image.fromarray(np.full((8, 8), 300, np.uint16))
    assert pixels(encoded(dark)).max() == 1
    assert square_mask_is_empty(dark)


def square_mask_is_empty(mask: Image.Image) -> bool:
    with pytest.raises(UserError, match="the mask has no white"):
        square_mask(mask, colour((0, 0, 0)), 8)
    return True


@pytest.mark.parametrize(
    "image",
    [
        colour((10, 200, 30, 0), "RGBA"),
        Image.new("LA", (8, 8), (10, 0)),
        Image.new("RGBa", (8, 8), (0, 0, 0, 0)),
        Image.new("La", (8, 8), (0, 0)),
        Image.new("PA", (8, 8), (0, 0)),
    ],
    ids=lambda image: image.mode,
)
def test_transparency_is_laid_on_white_and_of_masks_on_black(image: Image.Image) -> None:
    assert (np.asarray(to_rgb(image)) == 255).all()
    assert (np.asarray(to_rgb(image, "black")) == 0).all()


@pytest.mark.parametrize(
    ("image", "key"),
    [
        (colour((255, 0, 255)), (255, 0, 255)),
        (Image.new("L", (8, 8), 7), 7),
        (colour((1, 2, 3)).convert("P", dither=Image.Dither.NONE), 0),
    ],
    ids=["RGB", "L", "P"],
)
def test_a_transparent_colour_is_white(image: Image.Image, key: Any) -> None:
    if image.mode == "P":
        key = image.getpixel((0, 0))
    assert (pixels(encoded(image, transparency=key)) == 255).all()


def test_a_transparent_grey_of_16_bits_is_white() -> None:
    image = Image.fromarray(np.full((8, 8), 1000, np.uint16))
    image.info["transparency"] = 1000
    assert (np.asarray(to_rgb(image)) == 255).all()


def test_cmyk_lab_and_bits() -> None:
    assert np.abs(pixels(encoded(colour((0, 255, 255, 0), "CMYK"), "TIFF")) - [255, 0, 0]).max() <= 60
    lab = ImageCms.profileToProfile(
        colour((200, 30, 40)), ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), outputMode="LAB"
    )
    assert lab is not None and lab.mode == "LAB"
    assert np.abs(np.asarray(to_rgb(lab)).astype(int) - [200, 30, 40]).max() <= 6
    assert (pixels(encoded(Image.new("1", (8, 8), 1))) == 255).all()


def test_profiles_are_applied_and_damaged_ones_left_alone() -> None:
    plain = colour((200, 30, 40))
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert np.abs(pixels(encoded(plain, icc_profile=srgb)) - np.asarray(plain)).max() <= 1
    assert (pixels(encoded(plain, icc_profile=b"nonsense")) == np.asarray(plain)).all()
    # The profile of another colour space: its values are not these.
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    assert (pixels(encoded(plain, icc_profile=lab)) == np.asarray(plain)).all()
    wide = wide_profile()
    changed = pixels(encoded(plain, icc_profile=wide))
    assert changed[0, 0, 0] > 215 and abs(changed[0, 0, 1] - 30) > 3


def wide_profile() -> bytes:
    """sRGB's profile with its red primary moved outwards, as in Display P3."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    count = int.from_bytes(profile[128:132], "big")
    for tag in range(count):
        entry = 132 + 12 * tag
        if bytes(profile[entry : entry + 4]) == b"rXYZ":
            place = int.from_bytes(profile[entry + 4 : entry + 8], "big") + 8
            for axis, value in enumerate((0.5151, 0.2412, -0.0011)):
                profile[place + 4 * axis : place + 4 * axis + 4] = round(value * 65536).to_bytes(4, "big", signed=True)
    return bytes(profile)


def test_a_turned_photograph_is_upright_and_an_animation_its_first_frame() -> None:
    image = Image.fromarray(np.stack([np.repeat(GREY[:, :4], 2, 1)[:8, :6]] * 3, -1))
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    assert decode_image(encoded(image, exif=exif.tobytes())).size == (image.height, image.width)
    frames = [colour((255, 0, 0)), colour((0, 0, 255))]
    moving = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert (pixels(moving) == [255, 0, 0]).all()


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "it is no image"),
        (b"<svg/>", "it is no image"),
        (encoded(Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64), np.uint8)))[:600], "damaged"),
    ],
    ids=["empty", "not an image", "cut off"],
)
def test_unreadable_images_are_explained(data: bytes, reason: str, tmp_path: Any) -> None:
    with pytest.raises(ValueError, match=reason):
        decode_image(data)
    (tmp_path / "x.png").write_bytes(data)
    with pytest.raises(ValueError, match=reason):
        open_image(tmp_path / "x.png")


def test_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    data = encoded(colour((1, 2, 3)))
    monkeypatch.setattr("ernie_vilg_jax.images.MOST_BYTES", 10)
    with pytest.raises(ValueError, match="at most 0 are read"):
        decode_image(data)
    monkeypatch.undo()
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    with pytest.raises(ValueError, match="more pixels than can be handled"):
        decode_image(data)


def test_all_ways_show_the_model_the_same() -> None:
    """A file, decoded for training, and given to the API."""
    image = Image.fromarray(np.random.default_rng(0).integers(0, 2**16, (12, 8)).astype(np.uint16))
    (trained,) = {decode_image(encoded(image)).crop((0, 2, 8, 10)).tobytes()}
    assert square(Image.open(io.BytesIO(encoded(image))), 8).tobytes() == trained


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_an_empty_profile_is_none(mode: str) -> None:
    image = Image.new(mode, (8, 8))
    plain = np.asarray(to_rgb(image))
    image.info["icc_profile"] = b""
    assert (np.asarray(to_rgb(image)) == plain).all()
