"""Files that come with nsrun: beside the package in a checkout, inside it in a wheel."""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent.parent


def errors() -> Path:
    """The folder that holds ``CODE.md`` of every code."""
    installed = _PACKAGE / "errors"
    return installed if installed.is_dir() else _PACKAGE.parent / "docs/errors"
