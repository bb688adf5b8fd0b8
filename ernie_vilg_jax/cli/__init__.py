"""Code shared by all commands: flags, one-sentence errors, quiet logs, `--help` with examples.

A command module looks like this, and flags are defined in command modules only:

    \"\"\"What the command does, with examples; this text is what --help shows first.\"\"\"

    def main(argv: list[str]) -> None: ...

    def run() -> None:
        cli.run(main)

    if __name__ == "__main__":
        run()

Exit status: 0 success, 1 an error that users can fix (one sentence on stderr), 130 interrupted. Anything else is a bug,
and keeps its traceback. A full disk, a read-only folder and the like (`errors.file_error`) are errors that users can
fix, wherever they occur.
"""

from ernie_vilg_jax.cli.command import run
from ernie_vilg_jax.cli.environment import silence_runtime
from ernie_vilg_jax.cli.ports import check_free
from ernie_vilg_jax.compilation_cache import enable as enable_compilation_cache

__all__ = ["check_free", "enable_compilation_cache", "run", "silence_runtime"]
