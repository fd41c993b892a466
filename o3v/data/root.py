"""The data root: a folder in the layout of the real STGR files, and one with V-STAR's test file.

A data root has `json_data/STGR-SFT.json` and `json_data/STGR-RL.json` (or both outside of that folder) and `videos/`. A
row names its medium relative to the folder of its source (`sources`), to `videos/`, or to the root. Annotations of
other videos add `json_data/<name>-SFT.json` and a link `videos/<name>`. V-STAR names its videos without an ending; they
lie anywhere below its root. The synthetic world writes the same layout. This module does not open media.
"""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from o3v import files
from o3v.data import stgr
from o3v.data.sources import SOURCES
from o3v.schema import COLLECTIONS, Example, Row, SchemaError, Task, resolve_inside

SPLITS: Mapping[str, str] = {"sft": "SFT", "rl": "RL"}  # as the file names spell them
JSON_FOLDER = "json_data"
VSTAR_FILE = "V_STaR_test.json"
VIDEO_ENDINGS = (".mp4", ".mkv", ".webm", ".mov", ".avi", ".m4v", ".flv", ".ts", ".mpg", ".mpeg", ".wmv", ".3gp")
ENVIRONMENT = "O3V_DATA"  # names the data root where no parameter does


def from_environment(data_root: str) -> str:
    """The data root, or the one of the variable O3V_DATA if it is empty; "" without both.

    `o3v run` reads the variable itself and records it, so a notebook that it runs does not.
    """
    return data_root or ("" if os.environ.get("O3V_HEADLESS") else os.environ.get(ENVIRONMENT, ""))


def stgr_files(root: Path | str, split: str) -> list[Path]:
    """The STGR files of a split (`sft` or `rl`): STGR's own first, then those that annotations added, by name.

    Raises FileNotFoundError, which names the layout, if STGR's own is missing.
    """
    name = f"STGR-{SPLITS[split]}.json"
    folders = [folder for folder in (Path(root) / JSON_FOLDER, Path(root)) if (folder / name).is_file()]
    if not folders:
        reason = f"has neither {JSON_FOLDER}/{name} nor {name}" if Path(root).is_dir() else "is not a folder"
        raise FileNotFoundError(
            f"the data root {root} {reason}; give the folder of the STGR download that holds {JSON_FOLDER}/ and videos/"
        )
    added = sorted(folders[0].glob(f"[!.]*-{SPLITS[split]}.json"))
    return [folders[0] / name, *(path for path in added if path.name != name)]


def json_files(root: Path | str) -> list[Path]:
    """All STGR and V-STAR files of a root: those in it and in `json_data/`, and V-STAR's in a folder of it."""
    places = (Path(root), Path(root) / JSON_FOLDER)
    found = [p for folder in places for p in folder.glob("[!.]*") if p.suffix in (".json", ".jsonl")]
    return sorted({*found, *Path(root).glob(f"*/{VSTAR_FILE}")})


def row_files(data_root: Path | str, vstar_root: Path | str) -> list[Path]:
    """The files, or the folder of files, that decide which rows the roots have: a change of them changes the rows."""
    files_of_splits = [path for split in SPLITS for path in stgr_files(data_root, split)]
    folders = {path.parent if path.parent.name == JSON_FOLDER else path for path in files_of_splits}
    return sorted({*folders, vstar_file(vstar_root)})


def vstar_file(root: Path | str) -> Path:
    """V-STAR's test file: in `root` or in a folder of it. Raises FileNotFoundError for none, ValueError for several."""
    found = sorted(path for pattern in (VSTAR_FILE, f"*/{VSTAR_FILE}") for path in Path(root).glob(pattern))
    if not found:
        raise FileNotFoundError(f"there is no {VSTAR_FILE} in {root} or its folders; name its folder with vstar_root")
    if len(found) > 1:
        raise ValueError(f"{root} has several {VSTAR_FILE}: {found[0]} and {found[1]}; name one folder with vstar_root")
    return found[0]


def locate(root: Path | str, example: Example, found: dict[tuple[str, str], str] | None = None) -> Example:
    """The row with its paths relative to `root`, as far as their files exist; other paths stay as they are.

    `found` keeps the paths that were found for the next rows and calls: looking for a file takes time on a network.
    """
    found = {} if found is None else found
    source = next((source for source in SOURCES if source.fits(example.source)), None)
    medium = "image_path" if example.task is Task.SPATIAL else "video_path"
    folder, key_folder = (source.folder, source.key_frames) if source else ("", "")
    wanted = {(example.media_path, folder), *((frame.path, key_folder) for frame in example.key_frames if frame.path)}
    for place in wanted - found.keys():
        found[place] = find_medium(root, *place)
    frames = tuple(replace(f, path=found[f.path, key_folder]) if f.path else f for f in example.key_frames)
    return replace(example, **{medium: found[example.media_path, folder]}, key_frames=frames)


def read_split(root: Path | str, split: str) -> list[Example]:
    """All rows of a split, located, unchecked. Raises SchemaError for a bad row; `check` leaves it out instead."""
    return [locate(root, row) for path in stgr_files(root, split) for row in stgr.read_good_rows(path)]


def find_medium(root: Path | str, relative: str, folder: str = "") -> str:
    """The path of a file relative to `root`, for a path relative to `videos/<folder>`, `videos/` or `root`.

    The first of them that exists and does not leave the root; without one, `relative` itself.
    """
    return next((path for path in _places(relative, folder) if is_file(root, path)), relative)


def expected_places(example: Example) -> list[str]:
    """Where the medium of a row may lie, relative to its root, in the order in which `locate` looks."""
    source = next((source for source in SOURCES if source.fits(example.source)), None)
    return _places(example.media_path, source.folder if source else "")


def _places(relative: str, folder: str) -> list[str]:
    own = [f"{COLLECTIONS}/{folder}/{relative}"] if folder else []
    return [*own, f"{COLLECTIONS}/{relative}", relative]


def is_file(root: Path | str, relative: str) -> bool:
    """Whether a path is a file that does not leave `root` (`schema.resolve_inside`)."""
    try:
        return resolve_inside(root, relative).is_file()
    except (SchemaError, OSError):
        return False


def locate_items(root: Path | str, items: Iterable[Row]) -> list[Row | str]:
    """V-STAR's items with `video_path`, the path of their video below `root`; a message for an item without one.

    `vid` is a path, a file name, or a file name without its ending, as in the public file.
    """
    by_name, located = videos_by_name(root), []
    for item in items:
        try:
            located.append({**item, "video_path": find_video(root, item["vid"], by_name)})
        except FileNotFoundError as error:
            located.append(f"{item['vid']!s:.60}: {error}")
    return located


def find_video(root: Path | str, name: str, by_name: Mapping[str, Sequence[str]]) -> str:
    """The path below `root` of a video that is named by path, file name, or file name without or with another ending.

    `by_name` is that of `videos_by_name`. Raises FileNotFoundError for no and for several videos of this name.
    """
    if is_file(root, name):
        return name
    last = Path(name).name
    ended = last.lower().endswith(VIDEO_ENDINGS)
    paths = by_name.get(last) or (by_name.get(Path(last).stem) if ended else None) or []
    if len(paths) == 1:
        return paths[0]
    if paths:
        raise FileNotFoundError(f"several videos have this name: {', '.join(paths[:3])}")
    links = [path.name for path in sorted(Path(root).glob("[!.]*")) if path.is_symlink() and path.name != COLLECTIONS]
    hint = f" (links are followed below {COLLECTIONS}/ only, not {', '.join(links[:3])})" if links else ""
    raise FileNotFoundError(f"has no video{hint}")


def videos_by_name(root: Path | str) -> dict[str, list[str]]:
    """The paths of all videos below `root`, by file name with and without ending. Follows links as rows may."""
    by_name: dict[str, list[str]] = {}
    for path in _walk(Path(root)):
        name = Path(path).name
        for key in {name, Path(name).stem}:
            by_name.setdefault(key, []).append(path)
    return by_name


def _walk(root: Path) -> Iterator[str]:
    """Videos below a folder, in order. Each real folder is entered once, so links in a circle end."""
    entered: set[str] = set()
    for parent, folders, names in os.walk(root, followlinks=True):
        real = os.path.realpath(parent)
        if real in entered:
            folders.clear()
            continue
        entered.add(real)
        links = {name for name in folders if os.path.islink(os.path.join(parent, name))}
        place = Path(parent).relative_to(root)
        folders[:] = sorted(n for n in folders if n not in links or (place / n).parts[0] == COLLECTIONS)
        for name in sorted(names):
            relative = (Path(parent) / name).relative_to(root).as_posix()
            if name.lower().endswith(VIDEO_ENDINGS) and not name.startswith(".") and is_file(root, relative):
                yield relative


def add_rows(root: Path | str, name: str, examples: Iterable[Example], videos: Path | str | None = None) -> Path:
    """Adds annotated rows to a data root: `json_data/<name>-SFT.json`, and a link `videos/<name>` to their videos.

    Rows of an earlier call with this name are replaced; STGR's own files never change.

    Args:
        root: the data root.
        name: of the collection, for example "own".
        examples: rows whose paths are relative to `videos`, or to the root if `videos` is None.
        videos: folder of the videos.

    Raises FileExistsError if `videos/<name>` is something else than a link to this folder, and ValueError for "STGR".
    """
    if name == "STGR" or not name.isidentifier():
        raise ValueError(f"a collection cannot have the name {name!r}; use letters, and not STGR")
    rows = list(examples)
    if videos is not None:
        link = Path(root) / COLLECTIONS / name
        if os.path.lexists(link) and not (link.is_symlink() and link.resolve() == Path(videos).resolve()):
            raise FileExistsError(f"{link} is in the way of a link to {videos}; remove it or choose another name")
        if not link.is_symlink():
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(Path(videos).resolve(), target_is_directory=True)
        rows = [replace(e, video_path=f"{COLLECTIONS}/{name}/{e.video_path}") for e in rows]
    path = stgr_files(root, "sft")[0].with_name(f"{name}-SFT.json")
    with files.as_private_as(stgr_files(root, "sft")[0]):
        stgr.write_stgr(path, rows)
    return path
