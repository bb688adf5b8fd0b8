"""The version of this package, in one place. setup.py reads the line below as text, everything else imports it.

A release also needs its heading in CHANGELOG.md and its number in CITATION.cff; tests/test_packaging.py compares them.
"""

__version__ = "0.2.0.dev0"
