"""Names of files that a manifest gives, held below the folder that they belong to.

    contained(folder, name, manifest) -> folder / name, or an error

Run folders, data sets, archives and annotations come from others, too. Every name that is read from one of them goes
through here before a file is opened, written or removed: none leads out of its folder, by itself or by a link.
"""

import errno
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from netdissect.errors import ConceptsError, NetdissectError, ResultError

LEADS_OUT = re.compile(r"\A[/\\]|\A[A-Za-z]:|(?:\A|[/\\])\.\.(?:[/\\]|\Z)|\0|[\ud800-\udc7f\udd00-\udfff]")
"""From the root, a drive, a folder up in the manner of any system, a null, or half of a surrogate pair.

Surrogates from U+DC80 to U+DCFF are how Python spells bytes of a name that are no UTF-8.
"""
OTHER_FOLDER = "Choose a folder that exists and has space."
"""What to do where a single file cannot be written."""


def check_name(
    name: str, folder: str | Path, manifest: str | Path, error: type[NetdissectError] = ConceptsError
) -> str:
    """Refuse a name that leads out of its folder as it is spelled; what links do is for `contained` to see.

    Parameters
    ----------
    name
        As the manifest gives it.
    folder
        To which it belongs.
    manifest
        Who says so.
    error
        What is raised.

    Returns
    -------
    str
        The name.

    Raises
    ------
    NetdissectError
        If it is absolute, has ``..`` between slashes or backslashes, begins with a drive or cannot be a name at all.

    >>> check_name("a/b.png", "images", "index.csv")
    'a/b.png'
    """
    if LEADS_OUT.search(name):
        raise error(
            f"{manifest} names the file {name!r}, which lies outside {folder}. Expected a path below that folder: do "
            "not trust whoever made it, or correct the name."
        )
    return name


def check_regular(path: Path) -> None:
    """See that a path, if anything is there, is no named pipe, socket or device: opening one may wait for ever.

    Raises
    ------
    OSError
        If it is.
    """
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):
        return  # opening it will say why
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise OSError(errno.EINVAL, "a named pipe, a socket or a device, and no file", str(path))


def contained(
    folder: str | Path, name: str, manifest: str | Path, error: type[NetdissectError] = ConceptsError
) -> Path:
    """Return the file of a name that a manifest gives, which may be absent.

    Parameters
    ----------
    folder, name, manifest, error
        As for `check_name`. The folder itself may be a link, or lie below one.

    Raises
    ------
    NetdissectError
        If the name leads out of the folder, by itself or by a link below the folder.
    """
    path = Path(folder, check_name(name, folder, manifest, error))
    place = str(folder)
    for part in path.parts[len(Path(folder).parts) :]:
        place = os.path.join(place, part)  # noqa: PTH118 - a data set has a quarter of a million names
        if os.path.islink(place):  # noqa: PTH114
            break
    else:
        return path
    if not os.path.realpath(path).startswith(os.path.join(os.path.realpath(folder), "")):  # noqa: PTH118
        raise error(
            f"{manifest} names the file {name!r}, and {place} is a link that leads outside {folder}. Expected a file "
            "in that folder: put a copy in place of the link, if you trust whoever made it."
        )
    return path


@contextmanager
def writing(path: str | Path, remedy: str) -> Iterator[None]:
    """Turn an error of the disk into one that says what cannot be written.

    Parameters
    ----------
    path
        What is written.
    remedy
        What to do, as sentences.

    Raises
    ------
    ResultError
        If what is done inside raises an `OSError`.
    """
    try:
        yield
    except OSError as error:
        raise ResultError(f"{path} cannot be written ({error}). {remedy}") from error


def check_writable(path: str | Path) -> None:
    """See that a file can be written, before what it shall hold is computed.

    Raises
    ------
    ResultError
        If its folder is missing or read-only, or the path is a folder.
    """
    path = Path(path)
    with writing(path, OTHER_FOLDER):
        for number, is_so, named in (
            (errno.ENOENT, not path.parent.is_dir(), path.parent),
            (errno.EISDIR, path.is_dir(), path),
            (errno.EACCES, not os.access(path.parent, os.W_OK), path.parent),
        ):
            if is_so:
                raise OSError(number, os.strerror(number), str(named))
