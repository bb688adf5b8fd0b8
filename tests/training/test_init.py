"""The base from imported weights: through the commands that users run, and the real `train`."""

import json
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from absl.testing import flagsaver
from etils import epath
from orbax.checkpoint import v1 as ocp
from transformers import BertTokenizer

from configs.demo import get_config
from ernie_vilg_jax import checkpoint, checkpointing, compatibility
from ernie_vilg_jax.data.tokenizers import load_tokenizer
from ernie_vilg_jax.errors import UserError
from ernie_vilg_jax.interop import autoencoder_kl, bert
from ernie_vilg_jax.interop.convert import import_unet
from ernie_vilg_jax.interop.safetensors_files import open_tensors, write_folder
from ernie_vilg_jax.preparation.prepare import prepare
from ernie_vilg_jax.training import loop
from tests.tiny_run import MakeConfig, train

pytestmark = pytest.mark.slow

AUTOENCODER = {"channels": (8, 16), "num_res_blocks": 1, "latent_channels": 4, "patch_size": 1, "norm_groups": 8}
TEXT_ENCODER = {
    **{"width": 16, "num_layers": 1, "num_heads": 2, "norm": "post", "activation": "gelu", "mlp_width": 0},
    "norm_epsilon": 1e-12,
}
WORDS = (*("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"), *"红黄蓝绿色的圆形正方三角星在左右", "a", "red", "blue")
LENGTH = 12


def noise(shapes: Any) -> Any:
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda leaf: rng.normal(0.0, 0.1, leaf.shape).astype(np.float32), shapes)


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders as save_pretrained writes them: vae/ and bert/. (tests/interop compares real ones.)"""
    folder = tmp_path_factory.mktemp("sources")
    statistics = {"mean": np.full(4, 0.5, np.float32), "std": np.full(4, 2.0, np.float32)}
    vae = {"params": noise(autoencoder_kl.abstract(AUTOENCODER)), **statistics}
    write_folder(epath.Path(folder / "vae"), *autoencoder_kl.write(AUTOENCODER, vae, 16))
    params = noise(bert.abstract(TEXT_ENCODER, len(WORDS), 20))
    files = bert.write(TEXT_ENCODER, params, len(WORDS), 20, 0)
    write_folder(epath.Path(folder / "bert"), *files, "model.safetensors")
    (folder / "bert" / "vocab.txt").write_text("\n".join(WORDS) + "\n", encoding="utf-8")
    return folder


def command(*words: str, **flags: Any) -> None:
    with flagsaver.flagsaver(**flags):
        checkpoint.main(["checkpoint", *words])


@pytest.fixture(scope="module")
def weights(sources: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """vae/ and bert/ as parts for the base."""
    folder = tmp_path_factory.mktemp("weights")
    command("import_autoencoder", str(sources / "vae"), str(folder / "vae"))
    command("import_text_encoder", str(sources / "bert"), str(folder / "bert"), max_length=LENGTH)
    return folder


@pytest.fixture(scope="module")
def bert_data(sources: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = get_config("smoke")
    words = {"kind": "bert", "path": str(sources / "bert"), "vocab_size": len(WORDS), "max_length": LENGTH}
    config.tokenizer.update(words)
    path = tmp_path_factory.mktemp("bert_data")
    prepare(config, path)
    return path


def config_for(make_config: MakeConfig, weights: Path, data: Path, **changes: Any) -> Any:
    fitting = {
        **{f"model.autoencoder.{name}": value for name, value in AUTOENCODER.items()},
        **{f"model.text_encoder.{name}": value for name, value in TEXT_ENCODER.items()},
        **{"data.path": str(data), "tokenizer.kind": "bert", "tokenizer.max_length": LENGTH},
        "model.unet.attention_downsamplings": (1,),
        **{
            "phases.base.autoencoder_from": str(weights / "vae"),
            "phases.base.text_encoder_from": str(weights / "bert"),
        },
        **{"phases.base.steps": 1, "phases.base.learning_rate": 0.0, "train.preview_every": 0},
    }
    return make_config("base", **{**fitting, **changes})


def begun(config: Any, workdir: Path) -> Any:
    """The state that `train` begins with; its loop is not run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "train", lambda task, *_: jax.tree.map(np.asarray, drop_key(task.init(jax.random.key(0)))))
        return train(config, workdir)


def drop_key(state: Any) -> Any:
    return {name: tree for name, tree in state.items() if name != "key"}


def item(path: Path, name: str) -> Any:
    return jax.tree.map(np.asarray, ocp.load(str(checkpointing.find(path).absolute()), checkpointable_name=name))


def assert_equal(one: Any, other: Any) -> None:
    assert jax.tree.structure(one) == jax.tree.structure(other)
    jax.tree.map(np.testing.assert_array_equal, one, other)


@pytest.fixture(scope="module")
def trained(make_config: MakeConfig, weights: Path, bert_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base of one step at a rate of 0, without an autoencoder trained in the run."""
    workdir = tmp_path_factory.mktemp("trained")
    train(config_for(make_config, weights, bert_data), workdir)
    return workdir


@pytest.mark.proofs
def test_stage_1_takes_autoencoder_and_text_encoder(sources: Path, trained: Path) -> None:
    assert not (trained / "autoencoder").exists()
    vae = item(trained, "autoencoder")
    raw = open_tensors(sources / "vae")
    kernel = raw.read("encoder.down_blocks.1.resnets.0.conv1.weight").transpose(2, 3, 1, 0)
    np.testing.assert_array_equal(vae["params"]["encoder"]["down_1_res_0"]["conv_0"]["kernel"], kernel)
    np.testing.assert_array_equal(vae["mean"], np.full(4, 0.5))
    np.testing.assert_array_equal(vae["std"], np.full(4, 2.0))
    text, raw = item(trained, "text_encoder"), open_tensors(sources / "bert")
    for role, rounding in (("params", 0.0), ("ema", 3e-7)):  # the average was updated once
        near = partial(np.testing.assert_allclose, rtol=rounding)
        near(text[role]["tokens"]["embedding"], raw.read(bert.WORDS))
        near(text[role]["positions"], raw.read(bert.POSITIONS)[:LENGTH])
        kernel = raw.read("encoder.layer.0.attention.self.key.weight").T
        near(text[role]["layer_00"]["qkv"]["kernel"][:, 16:32], kernel)


@pytest.mark.proofs
def test_exported_weights_are_those_that_were_imported(
    sources: Path, bert_data: Path, trained: Path, tmp_path: Path
) -> None:
    command("export_autoencoder", str(trained), str(tmp_path / "vae"))
    command("export_text_encoder", str(trained), str(tmp_path / "bert"))
    assert json.loads((tmp_path / "vae" / "config.json").read_text())["shift_factor"] == 0.5
    assert (tmp_path / "bert" / "vocab.txt").read_text() == (sources / "bert" / "vocab.txt").read_text()
    theirs, ours = BertTokenizer.from_pretrained(tmp_path / "bert"), load_tokenizer(bert_data / "tokenizer")
    assert theirs("红色的圆形 RED")["input_ids"] == list(ours.encode("红色的圆形 RED")[0][:8])
    for name in ("vae", "bert"):
        before, after = open_tensors(sources / name), open_tensors(tmp_path / name)
        assert set(before.shapes) == set(after.shapes)
        for tensor in before.shapes:
            rows = LENGTH if tensor == bert.POSITIONS else None
            rounding = 3e-7 if name == "bert" else 0.0  # its average was updated once
            np.testing.assert_allclose(before.read(tensor)[:rows], after.read(tensor), rounding, err_msg=tensor)


@pytest.mark.proofs
def test_a_unet_begins_from_one_of_another_size(
    make_config: MakeConfig, weights: Path, bert_data: Path, trained: Path, tmp_path: Path, capsys: Any
) -> None:
    """One more level than the source, and attention only there: common tensors are taken for the run."""
    levels = {"model.unet.channel_multipliers": (1, 1), "model.unet.attention_downsamplings": (2,)}
    config = config_for(make_config, weights, bert_data, **levels)
    config.phases.base.unet_from = str(tmp_path / "unet")
    told = import_unet(trained, tmp_path / "unet", config)
    assert "tensors taken" in told and f"--config.phases.base.unet_from={tmp_path / 'unet'}" in told
    report = (tmp_path / "unet" / "warm_start.txt").read_text()
    assert "- there is no down_1_res_0/conv_in/kernel" in report
    assert report.count("not used: down_0_attn_0/") == 8 and report.count("not used: ") == 3 * 8
    params, base = begun(config, tmp_path)["experts"]["params"], item(trained, "expert_00")["ema"]
    params = jax.tree.map(lambda leaf: leaf[0], params)
    assert_equal(params["mid_attn"], base["mid_attn"])
    assert_equal(params["up_0_res_1"], base["up_0_res_1"])
    assert_equal(params["time_in"], base["time_in"])
    assert "down_1_res_0" in params and "down_1_res_0" not in base
    command("show", str(tmp_path / "unet"))
    assert f"{tmp_path / 'unet'}: imported unet of config" in capsys.readouterr().out


@pytest.mark.proofs
def test_parts_of_another_run(make_config: MakeConfig, weights: Path, bert_data: Path, trained: Path, tmp_path: Path):
    """The base of any run has an autoencoder to share."""
    config = config_for(make_config, weights, bert_data, **{"phases.base.autoencoder_from": str(trained)})
    assert_equal(begun(config, tmp_path)["autoencoder"], item(trained, "autoencoder"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"model.autoencoder.channels": (8, 8), "model.autoencoder.norm_groups": 32},
            r"--config.phases.base.autoencoder_from=\S+ is of other sizes than the config; give "
            r"'--config.model.autoencoder.channels=\(8, 16\)' --config.model.autoencoder.norm_groups=8$",
        ),
        ({"model.text_encoder.norm": "pre"}, "text_encoder_from=.* give --config.model.text_encoder.norm=post$"),
        ({"tokenizer.max_length": 10}, "text_encoder_from=.* give --config.tokenizer.max_length=12$"),
        (
            {"phases.base.autoencoder_from": "/nowhere"},
            "--config.phases.base.autoencoder_from=/nowhere: there is no such folder",
        ),
        (
            {"phases.base.init_from": "runs/x"},
            "init_from brings all components, so .* --config.phases.base.autoencoder_from",
        ),
    ],
)
def test_parts_that_do_not_fit(
    changes: dict[str, Any], message: str, make_config: MakeConfig, weights: Path, bert_data: Path, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=message):
        train(config_for(make_config, weights, bert_data, **changes), tmp_path)


def test_invalid_parts(
    make_config: MakeConfig, weights: Path, bert_data: Path, sources: Path, data: Path, tmp_path: Path
) -> None:
    swapped = {"phases.base.autoencoder_from": str(weights / "bert")}
    with pytest.raises(UserError, match="lacks its autoencoder, it holds text_encoder, tokenizer"):
        train(config_for(make_config, weights, bert_data, **swapped), tmp_path)
    raw = {"phases.base.autoencoder_from": str(sources / "vae")}
    with pytest.raises(
        UserError, match=r"--config\.phases\.base\.autoencoder_from=\S+: this folder holds no checkpoint"
    ):
        train(config_for(make_config, weights, bert_data, **raw), tmp_path)
    with pytest.raises(UserError, match="reads with another vocabulary than the data were prepared with"):
        train(config_for(make_config, weights, data), tmp_path)


def test_an_autoencoder_whose_latents_were_not_measured(
    make_config: MakeConfig, weights: Path, bert_data: Path, tmp_path: Path
) -> None:
    """A checkpoint of the phase `autoencoder`: it can be exported, but a U-Net cannot be trained on it yet."""
    config = config_for(make_config, weights, bert_data, **{"phases.base.autoencoder_from": str(tmp_path / "run")})
    params = item(weights / "vae", "autoencoder")["params"]
    metadata = checkpointing.make_metadata(config, target="autoencoder")
    checkpointing.save_once(tmp_path / "run", {"autoencoder": {"ema": params, "params": params}}, metadata)
    with pytest.raises(UserError, match="is an autoencoder's training, which has not measured the mean and deviation"):
        train(config, tmp_path)
    command("export_autoencoder", str(tmp_path / "run"), str(tmp_path / "vae"))
    assert json.loads((tmp_path / "vae" / "config.json").read_text())["scaling_factor"] == 1.0


@pytest.mark.parametrize(
    ("words", "flags", "message"),
    [
        (("import_autoencoder", "{sources}/nowhere", "{out}"), {}, "config.json is missing, which says how"),
        (("import_autoencoder", "{sources}/bert", "{out}"), {}, "bert is not the autoencoder of its config.json"),
        (("import_text_encoder", "{sources}/vae", "{out}"), {}, "vae holds no vocab.txt"),
        (("import_text_encoder", "{sources}/bert", "{out}"), {"max_length": 77}, "too few for a --max_length of 77"),
        (("import_autoencoder", "{sources}/vae", "{weights}/vae"), {}, "is not empty; name another folder, or give"),
        (("import_autoencoder", "{sources}/vae", "{sources}"), {"overwrite": True}, "which --overwrite would remove"),
        (("import_unet", "{sources}/vae", "{out}"), {}, "import_unet needs --config=FILE"),
        (("export_autoencoder", "{weights}/bert", "{out}"), {}, "lacks its autoencoder, it holds text_encoder"),
        (("export", "{weights}/vae", "{out}"), {}, "lacks its tokenizer, it holds autoencoder: .* import_"),
        (("import_vae", "{sources}/vae", "{out}"), {}, "say `show CHECKPOINT`.* import_autoencoder"),
    ],
)
def test_mistakes_get_one_sentence(
    words: tuple[str, ...], flags: dict[str, Any], message: str, sources: Path, weights: Path, tmp_path: Path
) -> None:
    places = {"sources": sources, "weights": weights, "out": tmp_path / "out"}
    with pytest.raises(UserError, match=message):
        command(*(word.format(**places) for word in words), **flags)
    assert not (tmp_path / "out").exists()
    assert (sources / "vae" / "config.json").is_file()


def test_the_demo_cannot_use_stable_diffusion(tmp_path: Path) -> None:
    from ernie_vilg_jax.pipeline import DEMO

    with pytest.raises(UserError, match="patch_size=4 has no counterpart"):
        command("export_autoencoder", str(DEMO), str(tmp_path / "vae"))
    with pytest.raises(UserError, match="norm='pre' has no counterpart"):
        command("export_text_encoder", str(DEMO), str(tmp_path / "bert"))


def test_a_checkpoint_older_than_a_field_had_its_default(make_config: MakeConfig, tmp_path: Path) -> None:
    config = make_config("base")
    metadata = checkpointing.make_metadata(config, phase="base")
    del metadata["config"]["model"]["text_encoder"]["norm"]
    checkpointing.save_once(tmp_path / "old", {"tokenizer": {"x": np.zeros(1, np.uint8)}}, metadata)
    compatibility.check_same(checkpointing.find(tmp_path / "old"), config, "base")
    config.model.text_encoder.norm = "post"
    with pytest.raises(UserError, match=r"model\.text_encoder\.norm \('pre' in the checkpoint, 'post' now\)"):
        compatibility.check_same(checkpointing.find(tmp_path / "old"), config, "base")
