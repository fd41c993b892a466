"""Writes every notebook as a Python text, so that a diff shows what changed and not the JSON around it.

The texts are made by nbconvert and never edited by hand: `o3v mirror` (or `make mirror`) writes them again.
"""

from pathlib import Path

from o3v.files import write_text

FOLDER = "text"  # below the folder of the notebooks
HEADER = "# Written by `make mirror` from {name}. Edit the notebook, not this file.\n\n"


def mirror_text(notebook: Path) -> str:
    """The notebook as Python: Markdown as comments, then the code of each cell. Raises ValueError if it is none."""
    from nbconvert import PythonExporter

    try:
        text, _ = PythonExporter(exclude_input_prompt=True).from_filename(str(notebook))
    except Exception as error:  # nbformat raises its own classes
        raise ValueError(f"{notebook} is no notebook: {error!s:.200}") from error
    lines = text.partition("# coding: utf-8\n")[2].splitlines()
    body = "\n".join(line.rstrip() for line in lines).strip()
    return HEADER.format(name=notebook.name) + body + "\n"


def mirrors(folder: Path) -> dict[Path, str]:
    """Every text that `folder` must have below `text/`, by its path; `exercises/a.ipynb` has `text/exercises/a.py`.

    Raises ValueError if the folder has no notebook, or if one cannot be read.
    """
    notebooks = [p for p in sorted(folder.rglob("*.ipynb")) if ".ipynb_checkpoints" not in p.parts]
    if not notebooks:
        raise ValueError(f"{folder} has no notebook (*.ipynb)")
    return {(folder / FOLDER / p.relative_to(folder)).with_suffix(".py"): mirror_text(p) for p in notebooks}


def write_mirrors(folder: Path) -> list[Path]:
    """Writes the texts of all notebooks in a folder and removes those of notebooks that are gone.

    Returns the paths that changed. Raises ValueError, before anything is written, if there is no notebook, or if one
    cannot be read.
    """
    wanted, there = mirrors(folder), set((folder / FOLDER).rglob("*.py"))
    changed = [path for path, text in wanted.items() if path not in there or path.read_text(encoding="utf-8") != text]
    for path in changed:
        write_text(path, wanted[path])
    gone = sorted(there - wanted.keys())
    for path in gone:
        path.unlink()
    return changed + gone
