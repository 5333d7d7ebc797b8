"""fsGroup: a volume's files belong to a group that all containers of the pod are in.

Source: k8s pkg/volume/volume_linux.go. Ownership and mode change through descriptors: a link in the volume is given the
group itself, what it leads to is left alone.
"""

from __future__ import annotations

import os
import stat

_READ_WRITE = 0o660
_READ = 0o440
_DIRECTORY = stat.S_ISGID | 0o110


def give(volume: int, group: int | None, read_only: bool = False) -> None:
    """Give the directory behind a descriptor, and all below, to a group; None leaves them. read_only: as is the volume.

    Group and owner may read and write files, only read those of a read-only volume; what is made in a directory later
    is of the group, too.
    """
    if group is None:
        return
    mask = _READ if read_only else _READ_WRITE
    # From inside to outside, as every directory is entered by its own descriptor.
    for _, directories, names, fd in os.fwalk(".", topdown=False, follow_symlinks=False, dir_fd=volume):
        for name in (*names, *directories):
            os.chown(name, -1, group, dir_fd=fd, follow_symlinks=False)
            _open_up(fd, name, mask)
    os.fchown(volume, -1, group)
    os.fchmod(volume, stat.S_IMODE(os.fstat(volume).st_mode) | mask | _DIRECTORY)


def _open_up(directory: int, name: str, mask: int) -> None:
    fd = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
    try:
        status = os.fstat(fd)
        if stat.S_ISLNK(status.st_mode):
            return
        mode = stat.S_IMODE(status.st_mode) | mask | (_DIRECTORY if stat.S_ISDIR(status.st_mode) else 0)
        # fchmod(2) takes no O_PATH descriptor; this name of it leads to the very file.
        os.chmod(f"/proc/self/fd/{fd}", mode)
    finally:
        os.close(fd)
