"""Paths as shown to people: relative to the repository's root, without the folders of this machine above it."""

import os
import re
from pathlib import Path

from o3v.config import REPOSITORY


def display_path(path: Path) -> str:
    """Returns a path relative to the repository or else to the working directory, if it lies below one of them."""
    for folder in (REPOSITORY, Path.cwd()):
        if path.is_relative_to(folder):
            return path.relative_to(folder).as_posix()
    return str(path)


def path_from(folder: Path, path: Path) -> str:
    """Returns `path` relative to `folder` if both lie in the repository, else unchanged. Both must be absolute."""
    inside = folder.is_relative_to(REPOSITORY) and path.is_relative_to(REPOSITORY)
    return Path(os.path.relpath(path, folder)).as_posix() if inside else str(path)


def hide_repository(text: str) -> str:
    """Makes all absolute paths of the repository in a text relative to its root, which itself becomes `.`."""
    root = str(REPOSITORY)
    if root == "/":  # the whole text would match
        return text
    return re.sub(rf"{re.escape(root)}(?![\w-]|\.\w)", ".", text.replace(f"{root}/", ""))
