from typing import Any

from . import config_flags as config_flags

def __getattr__(name: str) -> Any: ...
