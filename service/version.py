"""The version of this installation."""

from importlib.metadata import PackageNotFoundError, version
from typing import Final


def _installed() -> str:
    try:
        return version("arqade")
    except PackageNotFoundError:  # run from the source, not installed
        return "0"


VERSION: Final = _installed()
