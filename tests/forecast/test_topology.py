import pytest

from ernie_vilg_jax.errors import UserError
from ernie_vilg_jax.forecast.topology import describe


def test_unknown_chips_are_refused() -> None:
    with pytest.raises(UserError, match="--topology=v99:2x2 is of no known chip: give v5e, v5p, v6e, tpu7x"):
        describe("v99:2x2")
