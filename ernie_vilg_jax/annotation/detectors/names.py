"""Labels of detectors to names in both languages."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from ernie_vilg_jax.errors import UserError

_COCO = """
person 人, bicycle 自行车, car 汽车, motorcycle 摩托车, airplane 飞机, bus 公交车, train 火车, truck 卡车, boat 船,
traffic light 红绿灯, fire hydrant 消防栓, stop sign 停车标志, parking meter 停车收费表, bench 长椅, bird 鸟, cat 猫,
dog 狗, horse 马, sheep 羊, cow 牛, elephant 大象, bear 熊, zebra 斑马, giraffe 长颈鹿, backpack 背包, umbrella 雨伞,
handbag 手提包, tie 领带, suitcase 行李箱, frisbee 飞盘, skis 滑雪板, snowboard 单板滑雪板, sports ball 球, kite 风筝,
baseball bat 棒球棒, baseball glove 棒球手套, skateboard 滑板, surfboard 冲浪板, tennis racket 网球拍, bottle 瓶子,
wine glass 酒杯, cup 杯子, fork 叉子, knife 刀, spoon 勺子, bowl 碗, banana 香蕉, apple 苹果, sandwich 三明治,
orange 橙子, broccoli 西兰花, carrot 胡萝卜, hot dog 热狗, pizza 披萨, donut 甜甜圈, cake 蛋糕, chair 椅子,
couch 沙发, potted plant 盆栽, bed 床, dining table 餐桌, toilet 马桶, tv 电视, laptop 笔记本电脑, mouse 鼠标,
remote 遥控器, keyboard 键盘, cell phone 手机, microwave 微波炉, oven 烤箱, toaster 烤面包机, sink 水槽,
refrigerator 冰箱, book 书, clock 时钟, vase 花瓶, scissors 剪刀, teddy bear 泰迪熊, hair drier 吹风机,
toothbrush 牙刷
"""

COCO_CHINESE: dict[str, str] = {
    entry.strip().rpartition(" ")[0]: entry.strip().rpartition(" ")[2] for entry in _COCO.split(",") if entry.strip()
}
"""English -> Chinese name of the 80 classes."""

SPELLINGS: dict[str, str] = {
    "aeroplane": "airplane",
    "motorbike": "motorcycle",
    "sofa": "couch",
    "pottedplant": "potted plant",
    "diningtable": "dining table",
    "tvmonitor": "tv",
}
"""The Pascal VOC spellings that some detectors give to COCO classes."""

_HAN = re.compile(r"[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]")
_NOTHING = frozenset({"", "n/a", "background", "no object", "__background__", "none"})


class Names:
    """A detector's label -> names by language."""

    def __init__(self, label_names: str | Path | None = None) -> None:
        """Args: label_names: JSON file {"English name": "Chinese name"}, asked before the COCO classes."""
        self._chinese = dict(COCO_CHINESE)
        if label_names:
            self._chinese.update(_read_names(Path(label_names)))

    def __call__(self, label: str) -> dict[str, str]:
        """{"en": ..., "zh": ...} as far as known; {} for labels that stand for nothing.

        Of alternatives joined by commas, as in Visual Genome's classes ("stop sign,stopsign"), the first is taken.
        """
        name = label.split(",")[0].strip() if label.strip().lower() not in self._chinese else label.strip()
        if name.lower() in _NOTHING:
            return {}
        if _HAN.search(name):
            return {"zh": name}
        name = SPELLINGS.get(name.lower(), name).replace("_", " ")
        chinese = self._chinese.get(name.lower())
        return {"en": name, "zh": chinese} if chinese else {"en": name}


def read_json(path: Path, what: str, fix: str) -> Any:
    """What a JSON file holds. Raises UserError: `what` cannot be read, or is not JSON, and `fix` as the remedy."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{what} cannot be read ({error.strerror}): {fix}") from error
    except ValueError as error:
        raise UserError(f"{what} is not JSON ({error}): {fix}") from error


def _read_names(path: Path) -> dict[str, str]:
    fix = 'it must hold {"English name": "Chinese name", ...}'
    table = read_json(path, f"label_names={str(path)!r}", fix)
    if not isinstance(table, dict) or not all(isinstance(value, str) and value for value in table.values()):
        raise UserError(f"label_names={str(path)!r} is not a table of names: {fix}")
    return {key.strip().lower(): value.strip() for key, value in table.items()}
