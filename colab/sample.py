# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Pictures from Chinese and English
#
# Samples from the small demo model that comes with `ernie_vilg_jax`. There is nothing to download but Python packages,
# and a CPU is enough. The model knows everyday things drawn as emoji, 64 x 64 pixels; it demonstrates the code, not
# what the full model can do.

# %%
import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path

# A folder with a checkout of the project, or its address as git+https://…
SOURCE = next((str(p) for p in (Path.cwd(), Path.cwd().parent) if (p / "constraints.txt").exists()), ".")

if importlib.util.find_spec("ernie_vilg_jax") is None:
    accelerator = "[cuda]" if shutil.which("nvidia-smi") else "[tpu]" if Path("/dev/accel0").exists() else ""
    install = [sys.executable, "-m", "pip", "install", "-q", f"ernie_vilg_jax{accelerator} @ {SOURCE}"]
    if Path(SOURCE, "constraints.txt").exists():  # the versions that the tests run with
        install[-1:] = ["-c", f"{SOURCE}/constraints.txt", f"{SOURCE}{accelerator}"]
    subprocess.run(install, check=True)
    if "jax" in sys.modules:
        raise SystemExit("Another version of jax was loaded before: restart the runtime, and run all cells again.")

# %%
import jax

import ernie_vilg_jax
from ernie_vilg_jax.grid import labelled_grid

print(f"ernie_vilg_jax {ernie_vilg_jax.__version__}, jax {jax.__version__} on {jax.devices()[0].platform}")
pipe = ernie_vilg_jax.load()

# %% [markdown]
# The first call compiles, which takes a while; the next ones with as many pictures do not.

# %%
prompts = ["一只熊猫", "a red apple"]
images = pipe(prompts, num_images=2, seed=0)
labelled_grid(images, [prompt for prompt in prompts for _ in range(2)], columns=4)

# %% [markdown]
# Another seed gives other pictures. `guidance_scale` says how strictly they follow the words: 1 is the plain model, and
# more is stricter and less varied.

# %%
scales = [1.0, 3.0]
images = [pipe("一座城堡", seed=1, guidance_scale=scale)[0] for scale in scales]
labelled_grid(images, [f"guidance {scale}" for scale in scales])
