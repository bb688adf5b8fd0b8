"""One boundary for images: for any file, the model sees the same as a viewer."""

import io
import struct
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms

from ernie_vilg_jax.errors import UserError
from ernie_vilg_jax.images import (
    MOST_ZOOM,
    cut_square,
    decode_image,
    draw_crop,
    fitted,
    fitted_mask,
    open_image,
    to_rgb,
)

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


@pytest.mark.parametrize(
    ("values", "dtype", "shown"),
    [
        ([0, 128, 300, 32896, 60000, 65535], np.uint16, [0, 0, 1, 128, 233, 255]),
        ([200, 250], np.uint16, [1, 1]),  # dark, though it would fit into 8 bits
        ([2770, 2699], np.uint16, [11, 11]),  # 10.8 and 10.5
        ([0, 1], np.int32, [0, 1]),
        ([0, 255], np.int32, [0, 255]),
        ([257, 65535, 100_000, -5], np.int32, [1, 255, 255, 0]),
        ([0, 0.5, 1, -0.1], np.float32, [0, 128, 255, 0]),
        ([np.nan, 255, 7.5, -5], np.float32, [0, 255, 8, 0]),
        ([np.nan, 1, np.nan, 0], np.float32, [0, 255, 0, 0]),
    ],
)
@pytest.mark.filterwarnings("error")
def test_numbers_beyond_8_bits_are_scaled(values: list[float], dtype: type, shown: list[int]) -> None:
    image = Image.fromarray(np.array([values], dtype))
    assert np.asarray(to_rgb(image)).tolist() == [[[value] * 3 for value in shown]]


def test_16_bits_are_not_cut_off_at_255() -> None:
    assert mask_is_empty(Image.fromarray(np.full((8, 8), 300, np.uint16)))


def mask_is_empty(mask: Image.Image) -> bool:
    with pytest.raises(UserError, match="the mask has no white"):
        fitted_mask(mask, colour((0, 0, 0)), 8, 8)
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
    ("image", "shown"),
    [
        (Image.new("RGBA", (8, 8), (100, 0, 200, 128)), (177, 127, 227)),
        (Image.new("RGBa", (8, 8), (50, 0, 100, 128)), (177, 127, 227)),
        (Image.new("LA", (8, 8), (100, 128)), (177, 177, 177)),
        (Image.new("La", (8, 8), (50, 128)), (177, 177, 177)),
    ],
    ids=lambda value: getattr(value, "mode", ""),
)
def test_half_transparent_colours_are_mixed_with_white(image: Image.Image, shown: tuple[int, ...]) -> None:
    assert np.abs(np.asarray(to_rgb(image)).astype(int) - shown).max() <= 1


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
    lab.info.clear()  # a LAB image needs no profile
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


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "RGBa", "P", "PA"])
def test_a_profile_is_applied_in_every_mode_of_colours(mode: str) -> None:
    plain = colour((120, 60, 70))
    image = plain.quantize(2) if mode[0] == "P" else plain.convert("RGBA") if mode == "RGBa" else plain
    image = image.convert(mode)
    expected = np.asarray(to_rgb(image)).astype(int)
    image.info["icc_profile"] = wide_profile()
    shown = to_rgb(image)
    np.testing.assert_array_equal(to_rgb(shown), shown)  # not applied again
    assert "icc_profile" not in shown.info and "icc_profile" in image.info
    difference = np.asarray(shown) - expected
    assert image.mode == mode and (difference[..., 0] > 4).all() and (difference[..., 1] < -2).all()


@pytest.mark.parametrize("mode", ["L", "LA", "1"])
def test_a_profile_of_grey_is_applied(mode: str) -> None:
    value = 255 if mode == "1" else 64
    image = Image.new("L", (8, 8), value).convert(mode)
    image.info["icc_profile"] = linear_grey()
    light = value / 255
    shown = round(255 * (1.055 * light ** (1 / 2.4) - 0.055))
    assert np.abs(np.asarray(to_rgb(image)).astype(int) - shown).max() <= 1


def linear_grey() -> bytes:
    """The profile of a grey proportional to light: a header, a table of tags, the white point and the curve."""
    white = b"XYZ " + bytes(4) + b"".join(round(65536 * one).to_bytes(4, "big") for one in (0.9642, 1, 0.8249))
    curve = b"curv" + bytes(8)  # no entries: the identity
    places = {b"wtpt": (156, white), b"kTRC": (156 + len(white), curve)}
    table = b"".join(tag + at.to_bytes(4, "big") + len(data).to_bytes(4, "big") for tag, (at, data) in places.items())
    body = len(places).to_bytes(4, "big") + table + white + curve
    header = (128 + len(body)).to_bytes(4, "big") + b"lcms\2\x10\0\0mntrGRAYXYZ " + bytes(12) + b"acsp" + bytes(28)
    return header + white[8:] + bytes(128 - len(header) - 12) + body


def test_a_profile_is_read_once_for_many_images(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    build = ImageCms.buildTransform
    monkeypatch.setattr(ImageCms, "buildTransform", lambda *how: made.append(how) or build(*how))
    profile = wide_profile()[:-1] + b"\1"  # not that of another test
    for red in range(5):
        decode_image(encoded(colour((red, 30, 40)), icc_profile=profile))
    assert len(made) == 1


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


def test_all_errors_of_decoding_have_a_reason(tmp_path: Any) -> None:
    for error in (SyntaxError("broken PNG file"), struct.error("too short"), IndexError(), MemoryError()):

        def fail(file: Any, error: Exception = error) -> None:
            raise error

        with pytest.MonkeyPatch.context() as patch, pytest.raises(ValueError, match=r"^it is damaged \(\w+.*\)$"):
            patch.setattr(Image, "open", fail)  # Pillow raises these on damaged files
            decode_image(b"")
    with pytest.raises(ValueError, match=r"^No such file or directory"):
        open_image(tmp_path / "nowhere.png")


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((8, 8, 3), np.uint8), "the image must be a PIL image, but is a ndarray; open files with"),
        ("a.png", "the image must be a PIL image, but is a str"),
        (None, "the image must be a PIL image, but is a NoneType"),
        (Image.new("RGB", (0, 8)), r"the image has no pixels \(0x8\)"),
        (encoded(Image.effect_noise((64, 64), 50))[:1000], "the image cannot be read: it is damaged"),
    ],
)
def test_images_given_in_python_are_checked(image: Any, message: str) -> None:
    given = Image.open(io.BytesIO(image)) if isinstance(image, bytes) else image  # not read before it is used
    with pytest.raises(UserError, match=f"^{message}"):
        fitted(given, 8, 8)
    with pytest.raises(UserError, match=f"^{message.replace('the image', 'the mask')}"):
        fitted_mask(given, colour((0, 0, 0)), 8, 8)


def test_a_mask_is_black_where_it_is_transparent_and_as_the_image_is_shown() -> None:
    mask = Image.new("RGBA", (12, 8), (255, 255, 255, 0))
    mask.paste((255, 255, 255, 255), (2, 0, 6, 8))
    turned = Image.new("RGB", (8, 12))
    turned.getexif()[0x0112] = 6
    expected = np.zeros((8, 8), np.float32)
    expected[:, :4] = 1  # of the central square, which begins at 2
    np.testing.assert_array_equal(fitted_mask(mask, turned, 8, 8), expected)
    with pytest.raises(UserError, match="the mask is 12x8 pixels and the image 8x12: they must be of one size"):
        fitted_mask(mask, Image.new("RGB", (8, 12)), 8, 8)


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
    assert fitted(Image.open(io.BytesIO(encoded(image))), 8, 8).tobytes() == trained


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_an_empty_profile_is_none(mode: str) -> None:
    image = Image.new(mode, (8, 8))
    plain = np.asarray(to_rgb(image))
    image.info["icc_profile"] = b""
    assert (np.asarray(to_rgb(image)) == plain).all()


@pytest.mark.parametrize("orientation", [1, 6])
def test_a_large_jpeg_is_decoded_at_the_size_that_is_needed(orientation: int) -> None:
    """Less than a level off on average, and as upright as in full."""
    rng = np.random.default_rng(0)
    coarse = Image.fromarray(rng.integers(0, 256, (12, 16, 3), np.uint8)).resize((800, 600), Image.Resampling.BICUBIC)
    exif, buffer = coarse.getexif(), io.BytesIO()
    exif[0x0112] = orientation
    coarse.save(buffer, "JPEG", quality=90, exif=exif)
    whole = decode_image(buffer.getvalue())
    for share, factor in ((1.5, 1), (1.0, 1), (0.51, 1), (0.5, 2), (0.3, 2), (0.2, 4), (0.01, 8)):
        part = decode_image(buffer.getvalue(), share)
        assert (part.width, part.height) == (whole.width // factor, whole.height // factor)
    near = decode_image(buffer.getvalue(), 2 * 100 / 600)
    assert near.width == whole.width // 2
    first, second = (cut_square(one, draw_crop(*one.size, None), 100).astype(int) for one in (whole, near))
    assert np.abs(first - second).mean() < 1


def test_what_is_no_jpeg_is_decoded_whole() -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (64, 48)).save(buffer, "PNG")
    assert decode_image(buffer.getvalue(), 0.1).size == (64, 48)


@pytest.mark.parametrize(
    ("width", "height", "aspect"), [(300, 200, 1.5), (300, 200, 0.5), (200, 300, 1.0), (7, 900, 2.0)]
)
def test_a_crop_of_any_aspect_is_the_largest_and_stays_inside(width: int, height: int, aspect: float) -> None:
    left, top, wide, high = draw_crop(width, height, None, aspect)
    assert wide / high == pytest.approx(aspect)
    assert wide == pytest.approx(width) or high == pytest.approx(height)
    assert (left, top) == pytest.approx(((width - wide) / 2, (height - high) / 2))
    for seed in range(20):
        left, top, wide, high = draw_crop(width, height, np.random.default_rng(seed), aspect)
        assert wide / high == pytest.approx(aspect)
        assert min(left, top, width - left - wide, height - top - high) > -1e-9
        assert max(wide / width, high / height) >= 1 / MOST_ZOOM - 1e-9
