"""Real images of a user: forty stamps of Tux Paint, a Debian package, with captions in both languages."""

import hashlib
import json
import shutil
import subprocess
from pathlib import Path

PACKAGE = "tuxpaint-stamps-default"
KINDS = ("animals", "clothes", "food", "hobbies", "plants", "vehicles")


def fetch(folder: Path) -> Path:
    """Downloads and unpacks the package with apt's tools; returns the folder of its stamps."""
    subprocess.run(["apt-get", "download", "-q", PACKAGE], cwd=folder, check=True, capture_output=True)
    (package,) = folder.glob(f"{PACKAGE}_*.deb")
    subprocess.run(["dpkg-deb", "-x", package, folder / "unpacked"], check=True)
    return folder / "unpacked/usr/share/tuxpaint/stamps"


def choose(stamps: Path, output: Path, count: int = 40) -> list[dict[str, str]]:
    """Copies things with short captions in both languages, each caption once, drawn by the hash of their names."""
    found = []
    for image in sorted(stamps.rglob("*.png")):
        text = image.with_suffix(".txt")
        if not text.is_file() or image.relative_to(stamps).parts[0] not in KINDS:
            continue
        english, *others = (line.strip() for line in text.read_text(encoding="utf-8").splitlines())
        chinese = next((line.partition("=")[2] for line in others if line.startswith("zh_CN.utf8=")), "")
        english, chinese = english.rstrip("."), chinese.rstrip("。")
        if chinese and len(english.split()) <= 4 and len(chinese) <= 10:
            order = hashlib.sha256(image.name.encode()).hexdigest()
            found.append((order, image, english[0].lower() + english[1:], chinese))
    rows: dict[str, dict[str, str]] = {}
    output.mkdir(parents=True, exist_ok=True)
    for _, image, english, chinese in sorted(found):
        if len(rows) < count and not any(row["en"] == english or row["zh"] == chinese for row in rows.values()):
            shutil.copy(image, output / image.name)
            rows[image.name] = {"file": image.name, "en": english, "zh": chinese}
    lines = [json.dumps(row, ensure_ascii=False) for row in rows.values()]
    (output / "captions.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return list(rows.values())
