from typing import Any

from . import ConfigDict as ConfigDict
from . import FieldReference as FieldReference
from . import FrozenConfigDict as FrozenConfigDict

def __getattr__(name: str) -> Any: ...
