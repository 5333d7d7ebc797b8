"""A directory or file inside a volume, opened so that nothing in the volume leads out of it (CVE-2017-1002101,
CVE-2021-25741).

Source: k8s pkg/volume/util/subpath/subpath_linux.go. The kernel resolves the path beneath the volume (openat2(2)):
links that stay inside are followed, one that leads out, or is being swapped meanwhile, is an error.
"""

from __future__ import annotations

import os
import stat

from ..linux.syscalls import RESOLVE_BENEATH, RESOLVE_NO_MAGICLINKS, openat2


def open_beneath(volume: int, path: str) -> int:
    """An O_PATH descriptor of path inside the volume; what is missing is made, a directory with the volume's mode.

    volume: descriptor of its root. Raises OSError.
    """
    parts = [part for part in path.split("/") if part not in ("", ".")]
    mode = stat.S_IMODE(os.fstat(volume).st_mode) & (0o777 | stat.S_ISGID)
    try:
        return _open(volume, parts)
    except FileNotFoundError:
        for end in range(1, len(parts) + 1):
            _make(volume, parts[:end], mode)
    return _open(volume, parts)


def _open(volume: int, parts: list[str], flags: int = 0) -> int:
    return openat2(volume, "/".join(parts) or ".", os.O_PATH | flags, resolve=RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS)


def _make(volume: int, parts: list[str], mode: int) -> None:
    parent = _open(volume, parts[:-1], os.O_DIRECTORY)
    try:
        os.mkdir(parts[-1], mode, dir_fd=parent)
    except FileExistsError:
        return
    finally:
        os.close(parent)
    made = _open(volume, parts, os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        # Whatever the umask says.
        os.chmod(f"/proc/self/fd/{made}", mode)
    finally:
        os.close(made)
