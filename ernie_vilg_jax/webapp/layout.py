"""The components of the page, in their places. One of two modules that import gradio."""

import os
from typing import Any, NamedTuple

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # before gradio is imported
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

import gradio as gr

from ernie_vilg_jax.preparation.sources.scenes import COLOURS, RELATIONS
from ernie_vilg_jax.preparation.sources.shapes import SHAPES
from ernie_vilg_jax.sampling_params import ACCEPTS
from ernie_vilg_jax.templates import render
from ernie_vilg_jax.webapp.files import ENLARGEMENTS
from ernie_vilg_jax.webapp.options import Choices
from ernie_vilg_jax.webapp.request import FIELDS, MOST_CANDIDATES, MOST_IMAGES, NO_STYLE, PROMPT_LIMIT, SEEDS, limits

FIRST_IMAGES = 4
"""Default number of images on the page."""
TITLE = "ERNIE-ViLG 2.0 in JAX"
INTRODUCTION = f"# {TITLE}\nPictures from prompts in Chinese or English · 用中文或英文描述画面，生成图片"
STRENGTHS = (("image", 0.6), ("mask", 1.0))
"""Way -> the strength that it begins with."""


class Components(NamedTuple):
    """The components that the page's functions read and write."""

    inputs: dict[str, Any]
    """The arguments of `Page.generate`, in their order."""
    go: Any
    stop: Any
    note: Any
    gallery: Any

    @property
    def restored(self) -> list[str]:
        """Names of the inputs that a link sets."""
        return [name for name in self.inputs if name not in ("way", "image", "mask", "strength")]


def lay_out(choices: Choices) -> Components:
    """The page's components; within `gr.Blocks`."""
    gr.Markdown(INTRODUCTION)
    gr.HTML('<div id="status"></div>', padding=False)
    inputs: dict[str, Any] = {}
    with gr.Row(elem_id="main"):
        with gr.Column(elem_id="asked", min_width=280):
            inputs["prompt"] = gr.Textbox(
                label="Prompt · 描述", lines=2, max_length=PROMPT_LIMIT, elem_id="prompt",
                placeholder="一只熊猫 / a slice of pizza",
            )  # fmt: skip
            with gr.Row():
                go = gr.Button("Generate · 生成", variant="primary", elem_id="generate", min_width=120, scale=2)
                stop = gr.Button("Stop · 停止", elem_id="stop", min_width=80)
        with gr.Column(elem_id="made", min_width=280):
            note = gr.HTML(elem_id="note")
            gallery = gr.Gallery(
                show_label=False, elem_id="pictures", columns=2, height="auto", format="png", object_fit="contain",
                buttons=["download", "download_all", "fullscreen"], interactive=False,
            )  # fmt: skip
            gr.HTML('<div id="visit"></div>', padding=False)
        with gr.Column(elem_id="settings", min_width=280):
            _settings(choices, inputs)
    return Components(inputs, go, stop, note, gallery)


def _settings(choices: Choices, inputs: dict[str, Any]) -> None:
    """Adds all inputs but the prompt."""
    styles = [("none · 无", NO_STYLE), *((f"{one.en} · {one.zh}", key) for key, one in choices.styles.items())]
    if choices.examples:
        gr.Examples([[one] for one in choices.examples], inputs["prompt"], label="Examples · 例子",
                    examples_per_page=len(choices.examples), api_visibility="private")  # fmt: skip
    inputs["style"] = gr.Dropdown(styles, value=NO_STYLE, label="Style · 风格")
    inputs["num_images"] = gr.Slider(1, MOST_IMAGES, FIRST_IMAGES, step=1, label="Pictures · 张数")
    sizes = [(f"{size.height} x {size.width}", str(size)) for size in choices.sizes]
    size = gr.Dropdown(sizes, value=str(choices.sizes[0]), label="Height x width · 高 x 宽", visible=len(sizes) > 1)
    size.change(None, size, None, js="(size) => window.ernieSize(size)", api_visibility="private")
    tabs = _ways(choices)
    strength = gr.Slider(
        0.05, 1, 0.6, step=0.05, elem_id="strength", elem_classes="unused",
        label="How much of the image changes · 改变程度",
    )  # fmt: skip
    for tab, (_, value) in zip(tabs, STRENGTHS, strict=True):
        tab.select(None, None, strength, js=f"() => {value}", api_visibility="private")
    with gr.Accordion("More · 更多", open=False):
        inputs["random_seed"] = gr.Checkbox(True, label="Random seed · 随机种子")
        inputs["seed"] = gr.Number(0, precision=0, minimum=0, maximum=SEEDS - 1, label="Seed · 种子")
        inputs["negative_prompt"] = gr.Textbox(label="Negative prompt · 不要出现", max_length=PROMPT_LIMIT)
        inputs |= {name: _control(choices, name) for name in FIELDS}
        inputs["candidates"] = gr.Slider(
            1, MOST_CANDIDATES, 1, step=1, label="Candidates, of which the best is kept · 候选张数"
        )
        scorers = [*choices.scorers] or [("none", "")]
        inputs["rerank"] = gr.Dropdown(scorers, value=(*choices.scorers, "")[0], label="chosen by · 评分")
        inputs["enlarge"] = gr.Dropdown(_enlarged(choices), value=1, label="Pixels of the images · 图片像素")
    if choices.things or choices.scenes:
        with gr.Accordion("What the model knows · 模型认识什么", open=False, elem_id="known"):
            gr.HTML(render("known.html", choices=choices, shapes=SHAPES, colours=COLOURS, relations=RELATIONS))
    inputs["size"] = size
    inputs |= {name: gr.Textbox(visible=False) for name in ("way", "image", "mask")}
    inputs["strength"] = strength


def _enlarged(choices: Choices) -> list[tuple[str, int]]:
    """Labels and values of the sizes of downloads."""
    if len(choices.sizes) == 1:
        height, width = choices.sizes[0]
        return [(f"{height * times} x {width * times}", times) for times in ENLARGEMENTS]
    return [(f"x {times}", times) for times in ENLARGEMENTS]


def _ways(choices: Choices) -> list[Any]:
    """The tabs of what images begin with; those of an image, and of an image and a mask."""
    tabs = []
    with gr.Tabs(elem_id="ways"):
        with gr.Tab("Text · 文字"):
            gr.HTML("Images of the prompt alone · 只用描述生成图片")
        for (way, _), title in zip(STRENGTHS, ("Image · 图片", "Mask · 涂抹"), strict=True):
            with gr.Tab(title) as tab:
                gr.HTML(render("given.html", size=choices.sizes[0], mask=way == "mask"), elem_id=f"given-{way}")
            tabs.append(tab)
    return tabs


def _control(choices: Choices, name: str) -> Any:
    """The control of a field of `SamplingParams`."""
    accepts, value, (least, most) = ACCEPTS[name], getattr(choices.params, name), limits(name)
    if accepts.choices:
        return gr.Dropdown(list(accepts.choices), value=value, label=accepts.label)
    return gr.Slider(least, most, value, step=1 if isinstance(value, int) else 0.1, label=accepts.label)
