"""Turns values from the page, or from any program that calls its address, into a request, or refuses them.

Nothing is trusted: types, lengths and ranges are checked here, whatever the page itself allows.
"""

import base64
import binascii
import dataclasses
import io
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from PIL import Image

from ernie_vilg_jax import checks, images
from ernie_vilg_jax.data.sizes import Size
from ernie_vilg_jax.errors import UserError
from ernie_vilg_jax.sampling_params import ACCEPTS, DEFAULTS, SamplingParams, make_params
from ernie_vilg_jax.webapp.files import ENLARGEMENTS
from ernie_vilg_jax.webapp.options import Choices

PROMPT_LIMIT = 2000
"""Characters of a prompt, and of a negative prompt."""
MOST_IMAGES = 8
MOST_CANDIDATES = 4
SEEDS = 2**32
NO_STYLE = ""
WAYS = ("text", "image", "mask")
"""What images begin with: the prompt alone, an image, or an image and a mask."""
FIELDS = tuple(name for name, accepts in ACCEPTS.items() if accepts.label)
"""Fields of `SamplingParams` that the page offers unchanged."""
EXTRAS = ("candidates", "rerank", "enlarge", "size", "way", "image", "mask", "strength")
"""The values after `FIELDS`."""
LIMITS = {"guidance_scale": (1.0, 20.0), "steps": (1, 250)}
"""Limits that are narrower on the page than in `SamplingParams`."""
PICTURE = "data:image/png;base64,"


@dataclass(frozen=True)
class Request:
    """A checked request."""

    prompt: str
    """Including the style."""
    params: SamplingParams
    plain: str = ""
    """The prompt as it was typed."""
    style: str = NO_STYLE
    rerank: str = ""
    """The scorer that chooses among candidates, "" without."""
    enlarge: int = 1
    """How many times as long the sides of the downloads are."""
    image: Image.Image | None = None
    mask: Image.Image | None = None
    strength: float = 1.0

    def told(self) -> dict[str, Any]:
        """The values of a link to this request; images are not in it."""
        params = self.params
        values = {"prompt": self.plain, "style": self.style, "num_images": params.num_images, "seed": params.seed}
        values |= {"negative_prompt": params.negative_prompt[0] if params.negative_prompt else ""}
        values |= {name: getattr(params, name) for name in FIELDS}
        if params.candidates > 1:
            values |= {"candidates": params.candidates, "rerank": self.rerank}
        if params.height:
            values["size"] = str(Size(params.height, params.width))
        return values | ({"enlarge": self.enlarge} if self.enlarge > 1 else {})


def read_request(
    choices: Choices,
    prompt: Any,
    style: Any = None,
    num_images: Any = None,
    random_seed: Any = None,
    seed: Any = None,
    negative_prompt: Any = None,
    *,
    translate: Callable[[str], str] = str,
    **values: Any,
) -> Request:
    """The request of these values, of any JSON type; None is the default.

    Args:
      choices: the page's options.
      random_seed: true draws a seed and ignores `seed`.
      translate: applied to the checked prompts before the style is added.
      values: of `FIELDS` and `EXTRAS`.

    Raises UserError with one sentence for users of the page, not of the program.
    """
    plain = _text("The prompt", prompt)
    if not plain:
        raise UserError("The prompt is empty: say what the picture should show, such as 一只熊猫")
    look = NO_STYLE if style is None else checks.one_of("The style", style, ("", *choices.styles))
    count = 1 if num_images is None else checks.whole("The number of images", num_images, 1, MOST_IMAGES)
    if random_seed not in (True, False, None) or isinstance(random_seed, (int, float)) != isinstance(random_seed, bool):
        raise UserError("The choice of a random seed must be true or false")
    number = 0 if seed is None or random_seed else checks.whole("The seed", seed, 0, SEEDS - 1)
    negative = _text("The negative prompt", negative_prompt)
    given = {name: _field(name, values[name]) for name in FIELDS if values.get(name) is not None}
    params = make_params(dataclasses.asdict(choices.params), given)
    extras = {name: values.get(name) for name in EXTRAS}
    candidates, rerank = _candidates(choices, extras["candidates"], extras["rerank"])
    enlarge = checks.whole("The enlargement", 1 if extras["enlarge"] is None else extras["enlarge"])
    checks.one_of("The enlargement", enlarge, ENLARGEMENTS)
    size = _size(choices, extras["size"])
    image, mask, strength = _begun_with(size, extras)
    text, negative = translate(plain), translate(negative) if negative else ""
    return Request(
        prompt=choices.styles[look].after(text) if look else text,
        params=dataclasses.replace(
            params,
            num_images=count,
            candidates=candidates,
            seed=secrets.randbelow(SEEDS) if random_seed else number,
            negative_prompt=(negative,) if negative and params.guidance_scale > 1 else (),
            **(size._asdict() if len(choices.sizes) > 1 else {"height": 0, "width": 0}),
        ),
        plain=plain,
        style=look,
        rerank=rerank,
        enlarge=enlarge,
        image=image,
        mask=mask,
        strength=strength,
    )


def limits(name: str) -> tuple[float, float]:
    """Least and most of a field on the page."""
    return LIMITS.get(name, (ACCEPTS[name].least, ACCEPTS[name].most))


def _field(name: str, value: Any) -> Any:
    said = "The number of steps" if name == "steps" else f"The {name.replace('_', ' ')}"
    if ACCEPTS[name].choices:
        return checks.one_of(said, value, ACCEPTS[name].choices)
    return (checks.whole if isinstance(DEFAULTS[name], int) else checks.number)(said, value, *limits(name))


def _candidates(choices: Choices, count: Any, rerank: Any) -> tuple[int, str]:
    count = 1 if count is None else checks.whole("The number of candidates", count, 1, MOST_CANDIDATES)
    scorer = "" if rerank is None else checks.one_of("The scorer", rerank, ("", *choices.scorers))
    if count > 1 and not scorer:
        raise UserError("A scorer has to choose among candidates: name one, or make one candidate")
    return count, scorer if count > 1 else ""


def _size(choices: Choices, value: Any) -> Size:
    names = [str(size) for size in choices.sizes]
    name = "" if value is None else checks.one_of("The size", value, ("", *names))
    return choices.sizes[names.index(name) if name else 0]


def _begun_with(size: Size, extras: dict[str, Any]) -> tuple[Image.Image | None, Image.Image | None, float]:
    """The image, the mask and the strength of a request."""
    way = checks.one_of("The way", "text" if extras["way"] is None else extras["way"], WAYS)
    strength = checks.number("The strength", 1 if extras["strength"] is None else extras["strength"], 0, 1)
    for name in ("image", "mask"):
        if not isinstance(extras[name], str | None):
            raise UserError(f"The {name} must be text, a PNG in base64")
    if way == "text":
        return None, None, 1.0
    if strength == 0:
        raise UserError("The strength must be above 0: at 0 the image would stay as it is")
    image = _picture("image", extras["image"], size)
    return image, _picture("mask", extras["mask"], size) if way == "mask" else None, strength


def _picture(name: str, value: str | None, size: Size) -> Image.Image:
    """The image of a data URL. UserError unless it is a PNG of that size."""
    if not value:
        raise UserError(
            f"There is no {name}: choose one" if name == "image" else "Nothing is marked: paint on the image"
        )
    if not value.startswith(PICTURE):
        raise UserError(f"The {name} must be a PNG in base64")
    try:
        data = base64.b64decode(value[len(PICTURE) :], validate=True)
        with Image.open(io.BytesIO(data), formats=["PNG"]) as header:  # reads no pixels
            if header.size != (size.width, size.height):
                raise UserError(f"The {name} must be {size.height} pixels high and {size.width} wide")
        return images.decode_image(data)
    except (binascii.Error, OSError, ValueError) as error:
        raise UserError(f"The {name} cannot be read: it is no PNG, or a damaged one") from error


def _text(name: str, value: Any) -> str:
    if value is None:
        return ""
    if not isinstance(value, str):
        raise UserError(f"{name} must be text")
    if len(value) > PROMPT_LIMIT:
        raise UserError(f"{name} has {len(value)} characters; at most {PROMPT_LIMIT} are taken")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise UserError(f"{name} holds half a character (a lone surrogate), which is not text") from None
    printable = "".join(letter if letter.isprintable() else " " for letter in value)
    return " ".join(printable.split())
