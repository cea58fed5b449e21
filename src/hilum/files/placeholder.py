"""Files without their content: git-annex links, git-lfs pointers, empty files, web pages."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hilum.errors import FormatError

if TYPE_CHECKING:
    from pathlib import Path

    from hilum.errors import HilumError

_LFS = b"version https://git-lfs.github.com/spec/"
_ANNEX = "/annex/objects/"
_PAGE = (b"<!doctype html", b"<html", b"<head", b"<?xml version")
_LOOK = 512  # bytes


def is_unfetched(path: Path) -> bool:
    """Tell whether a path is a link to content that is not there."""
    return path.is_symlink() and not path.exists()


def refuse_placeholder(path: Path, kind: type[HilumError] = FormatError) -> None:
    """Raise where a file holds no content of its own kind.

    Args:
        path: of the file.
        kind: of error.

    Raises:
        HilumError: the file is a link to nothing (git-annex or other), a pointer of git-annex or
            git-lfs, empty, or a web page.
    """
    if is_unfetched(path):
        target = path.readlink()
        if _ANNEX in target.as_posix():
            raise _annex(path, kind)
        raise kind(
            f"{path}: a link to {target}, which does not exist",
            needed="the file itself",
            cure="correct the link, or copy the file here",
        )
    if not path.is_file():
        return
    with path.open("rb") as stream:
        head = stream.read(_LOOK)
    if not head:
        raise kind(
            f"{path}: an empty file (0 bytes)",
            needed="the file's content",
            cure="copy it again: an interrupted copy leaves this",
        )
    if head.startswith(_LFS):
        raise kind(
            f"{path}: a pointer of git-lfs, not the file itself; its content was not fetched",
            needed="the file itself",
            cure=f"run `git lfs pull` in {path.parent}",
        )
    if head.startswith(_ANNEX.encode()):
        raise _annex(path, kind)
    if head.lstrip(b"\xef\xbb\xbf \t\r\n").lower().startswith(_PAGE):
        raise kind(
            f"{path}: a web page, not the file itself: a server answered with a page to log in, or"
            " of an error",
            needed="the file itself",
            cure="download it again, logged in where the server asks for it",
        )


def _annex(path: Path, kind: type[HilumError]) -> HilumError:
    """Build the error for content that git-annex did not fetch."""
    return kind(
        f"{path}: a git-annex link whose content was not fetched",
        needed="the file itself",
        cure=f"run `git annex get {path.name}` (or `datalad get {path.name}`) in {path.parent}",
    )
