"""The content of an installed wheel, and the cost of importing the package."""

import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

import ernie_vilg_jax

ROOT = Path(__file__).parent.parent


def read_setup(root: Path) -> Any:
    """The distribution of root/setup.py, as setuptools reads it; nothing is built."""
    pytest.importorskip("setuptools")
    from distutils.core import run_setup  # setuptools has its own distutils, also if Python has none

    return run_setup(str(root / "setup.py"), stop_after="init")


def test_wheel_holds_assets_at_any_depth(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A checkpoint is an Orbax directory: deep, and with names such as `_METADATA` and `d/0a1b2c`."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(ROOT / "setup.py", tmp_path)
    (tmp_path / "ernie_vilg_jax").mkdir()
    shutil.copy(ROOT / "ernie_vilg_jax" / "version.py", tmp_path / "ernie_vilg_jax")
    assets = tmp_path / "ernie_vilg_jax" / "assets"
    names = ("lexicons/zh/verbs.txt", "demo/_CHECKPOINT_METADATA", "demo/ema_00/ocdbt.process_0/d/0a1b2c")
    for name in names:
        (assets / name).parent.mkdir(parents=True, exist_ok=True)
        (assets / name).write_text("")
    (tmp_path / "ernie_vilg_jax" / "__init__.py").write_text("")

    build = read_setup(tmp_path).get_command_obj("build_py")
    build.ensure_finalized()
    packed = {name for _, _, _, data in build.data_files for name in data}
    assert {f"assets/{name}" for name in names} <= packed


def test_configs_are_installed_inside_the_package(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(ROOT)
    distribution = read_setup(ROOT)
    assert "ernie_vilg_jax.configs" in distribution.packages
    build = distribution.get_command_obj("build_py")
    build.ensure_finalized()
    modules = {module for package, module, _ in build.find_all_modules() if package == "ernie_vilg_jax.configs"}
    assert {"demo", "paper", "ablation"} <= modules


def test_commands_exist(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(ROOT)
    scripts = read_setup(ROOT).entry_points["console_scripts"]
    assert scripts
    for script in scripts:
        module, function = re.split(r" = |:", script)[1:]
        source = importlib.util.find_spec(module)
        assert source and source.origin, f"{script}: no such module"
        assert f"def {function}(" in Path(source.origin).read_text(), f"{script}: no such function"


def test_constraints_pin_every_requirement_within_its_range(monkeypatch: pytest.MonkeyPatch):
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    monkeypatch.chdir(ROOT)
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if line and line[0] != "#"]
    pins = dict(line.split(";")[0].strip().split("==") for line in lines)
    pins = {canonicalize_name(name): version for name, version in pins.items()}
    distribution = read_setup(ROOT)
    extras = distribution.extras_require
    for line in [*distribution.install_requires, *extras["test"], *extras["dev"]]:
        requirement = Requirement(line)
        version = pins.get(canonicalize_name(requirement.name))
        assert version and requirement.specifier.contains(version), f"{line}: constraints.txt pins {version}"


def test_import_is_light():
    code = "import sys, ernie_vilg_jax; sys.exit(any(m in sys.modules for m in ('jax', 'flax', 'numpy', 'PIL')))"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_public_names():
    assert {"load", "Pipeline"} <= set(dir(ernie_vilg_jax))
    with pytest.raises(AttributeError, match="no attribute 'lod'"):
        ernie_vilg_jax.lod  # noqa: B018


def test_version_is_one_number(monkeypatch: pytest.MonkeyPatch):
    """In ernie_vilg_jax/version.py; the package metadata, CITATION.cff and the changelog agree with it."""
    from packaging.version import Version

    monkeypatch.chdir(ROOT)
    assert read_setup(ROOT).get_version() == ernie_vilg_jax.__version__
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"] == ernie_vilg_jax.__version__
    headings = re.findall(r"^## \[(.+?)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    version, released = Version(ernie_vilg_jax.__version__), [Version(name) for name in headings[1:]]
    assert headings[0] == "Unreleased" and released == sorted(set(released), reverse=True)
    # Between releases, a development version of the next one; at a release, the newest heading.
    assert version > released[0] if version.is_devrelease else version == released[0]


def test_version_is_written_nowhere_else():
    files = [*ROOT.glob("*.md"), *ROOT.glob("*.py"), *ROOT.glob("docs/*.md")]
    files += [file for folder in ("ernie_vilg_jax", "configs", "colab") for file in (ROOT / folder).rglob("*.py")]
    found = [str(file.relative_to(ROOT)) for file in files if ernie_vilg_jax.__version__ in file.read_text()]
    assert found == ["ernie_vilg_jax/version.py"]


FORMS = sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*_*.yml"))


def test_yaml_files_parse():
    files = [*ROOT.glob(".github/**/*.yml"), ROOT / ".pre-commit-config.yaml", ROOT / "CITATION.cff"]
    for file in files:
        assert isinstance(yaml.safe_load(file.read_text()), dict), file


@pytest.mark.parametrize("form", FORMS, ids=[form.stem for form in FORMS])
def test_issue_forms_have_the_keys_that_github_requires(form: Path):
    """The required keys of GitHub's schema."""
    content = yaml.safe_load(form.read_text())
    assert content["name"] and content["description"] and content["body"]
    ids = [field["id"] for field in content["body"]]
    assert len(ids) == len(set(ids))
    for field in content["body"]:
        assert field["type"] in ("textarea", "input", "dropdown", "checkboxes") and field["attributes"]["label"]


def test_bug_reports_ask_for_the_doctor():
    bug = yaml.safe_load((ROOT / ".github" / "ISSUE_TEMPLATE" / "bug_report.yml").read_text())
    doctor = next(field for field in bug["body"] if field["id"] == "doctor")
    assert "python -m ernie_vilg_jax.doctor" in doctor["attributes"]["description"]
    assert doctor["validations"]["required"]


def test_the_workflow_calls_both_scripts():
    (job,) = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())["jobs"].values()
    assert [step["run"] for step in job["steps"] if "run" in step] == ["bash .ci/${{ matrix.script }}"]
    assert job["strategy"]["matrix"]["script"] == ["run", "proofs"]
    for script in ("run", "proofs"):
        assert (ROOT / ".ci" / script).is_file()


def test_newest_takes_the_readme_command_apart():
    """`.ci/newest` leaves out the constraints and adds -m; it says when there is no such interpreter."""
    (line,) = re.findall(r"^ *python3\.11 -m venv .*pytest.*$", (ROOT / "README.md").read_text(), re.MULTILINE)
    assert " -c constraints.txt " in line and line.count(".venv/bin/python -m pytest") == 1
    script = ROOT / ".ci" / "newest"
    done = subprocess.run(["bash", script], capture_output=True, text=True, env={**os.environ, "PYTHON": "python0"})
    assert done.returncode == 1 and "python0 does not run" in done.stderr


def test_citation_names_the_software_and_the_paper():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["cff-version"] == "1.2.0" and citation["title"] == "ernie_vilg_jax" and citation["authors"]
    (paper,) = citation["references"]
    assert paper["title"].startswith("ERNIE-ViLG 2.0") and "2210.15257" in paper["url"]
    assert citation["license"] == "Apache-2.0"


def test_hooks_are_the_checks_of_ci():
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    entries = {hook["entry"].split()[0] for repository in hooks for hook in repository["hooks"]}
    assert entries == {"ruff", "pyright", "lint-imports"}
    script = (ROOT / ".ci" / "run").read_text()
    for entry in entries:
        assert f'"$tools/bin/{entry}"' in script, f"CI does not run {entry}"


def test_tpu_launcher_prints_its_commands_and_runs_none(tmp_path: Path):
    """Without gcloud, a dry run still prints everything, quoted for a shell."""
    script = ROOT / "launch" / "tpu_vm.sh"
    line = [script, "--name=ernie", "--zone=us-west4-a", "--workdir=gs://bucket/my run", "--dry_run"]
    done = subprocess.run(line, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "+ gcloud compute tpus tpu-vm create ernie --zone=us-west4-a --accelerator-type=v5litepod-8" in done.stdout
    commands = [shlex.split(line[2:]) for line in done.stdout.splitlines() if line.startswith("+ ")]
    train = next(word for command in commands for word in command if "ernie_vilg_jax.train " in word)
    assert "--workdir=gs://bucket/my\\ run" in train
    assert not list(tmp_path.iterdir())
    wrong = subprocess.run([script, "--name=ernie"], capture_output=True, text=True)
    assert wrong.returncode == 1 and wrong.stderr == "error: --name and --zone must be given; --help shows how.\n"
