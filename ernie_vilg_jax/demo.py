"""A page in the browser to try a model with: prompts in Chinese or English, styles, previews, downloads.

  python -m ernie_vilg_jax.demo                             # http://127.0.0.1:7860, the demo model in the package
  python -m ernie_vilg_jax.demo --checkpoint=runs/demo --port=8000
  python -m ernie_vilg_jax.demo --host=0.0.0.0              # for everybody who reaches this machine
  python -m ernie_vilg_jax.demo --lora=runs/mine/lora.safetensors --lora_scale=0.7
  python -m ernie_vilg_jax.demo --translate=Helsinki-NLP/opus-mt-mul-en  # other languages, too; needs '.[models]'

Requests are made one at a time; --queue_size more may wait, of them --client_queue_size from one address, and the next
is told to try again. The page loads nothing from elsewhere, and needs gradio: pip install '.[demo]'.
"""

import logging
import threading

from absl import flags

from ernie_vilg_jax import cli, shared_flags
from ernie_vilg_jax.errors import UserError, install

_CHECKPOINT = flags.DEFINE_string("checkpoint", None, "Checkpoint folder, or the --workdir of a training run.")
_HOST = flags.DEFINE_string("host", "127.0.0.1", "Address to listen at; 0.0.0.0 is open to the network.")
_PORT = flags.DEFINE_integer("port", 7860, "Port to listen at.", lower_bound=1, upper_bound=65535)
_QUEUE_SIZE = flags.DEFINE_integer("queue_size", 20, "Requests that may wait.", lower_bound=1)
_CLIENT_QUEUE_SIZE = flags.DEFINE_integer(
    "client_queue_size", 4, "Requests from one address that may wait; 0 is no such limit.", lower_bound=0
)
_SHARE = flags.DEFINE_bool("share", False, "Also a public address, through gradio's servers.")
_MODE = flags.DEFINE_enum("mode", "resident", ["resident", "streamed"], "Where the experts are; see docs/sampling.md.")
_TRANSLATE = flags.DEFINE_string(
    "translate", None, "Translates prompts that are neither Chinese nor English: a model of transformers, see docs."
)
shared_flags.define_adapters()
flags.adopt_module_key_flags(shared_flags)

log = logging.getLogger(__name__)


def main(argv: list[str]) -> None:
    del argv
    cli.check_free(_HOST.value, _PORT.value)
    from ernie_vilg_jax.pipeline import load

    try:
        from ernie_vilg_jax.webapp.page import FIRST_IMAGES, Page
    except ModuleNotFoundError as error:
        if error.name != "gradio":
            raise
        raise UserError(f"the page needs gradio: {install('demo')}") from error
    from ernie_vilg_jax.pipeline.languages import Languages
    from ernie_vilg_jax.webapp.worker import Worker

    cli.enable_compilation_cache()
    with shared_flags.naming_flags():
        translate = Languages(_TRANSLATE.value) if _TRANSLATE.value else str
        worker = Worker(load(_CHECKPOINT.value, mode=_MODE.value, **shared_flags.adapters()))
    page = Page(worker, _QUEUE_SIZE.value, translate, client_queue_size=_CLIENT_QUEUE_SIZE.value)
    address = page.launch(_HOST.value, _PORT.value, share=_SHARE.value)
    log.info("open %s in a browser; Ctrl-C ends the demo", address)
    # Afterwards: the page says meanwhile that the model is being compiled.
    threading.Thread(target=worker.warm_up, args=(FIRST_IMAGES,), daemon=True).start()
    page.blocks.block_thread()


def run() -> None:
    """Console entry."""
    cli.run(main)


if __name__ == "__main__":
    run()
