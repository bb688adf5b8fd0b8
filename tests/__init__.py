"""A package of its own, because torch-fidelity installs another one of this name, which would be found instead."""
