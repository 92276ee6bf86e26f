"""Names of files and classes, as far as they are text."""

from __future__ import annotations


def is_text(name: str) -> bool:
    """Whether a name can be written as UTF-8.

    The bytes of a file's name that isn't UTF-8 can't be, which Python keeps as lone surrogates, nor can those that
    JSON's escapes may spell.
    """
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
