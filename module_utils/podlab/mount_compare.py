"""A mount that is there, compared with the one that is wanted. Pure: mountinfo entries in, differences out."""

from __future__ import annotations

import os

from .linux.mount import FLAGS, flags_of, split_lowerdirs, unquote
from .linux.mountinfo import MountInfo
from .mount_want import Wanted

# Words of per-mount flags, in mountinfo's order, with the word that takes each away.
WORDS = (
    ("ro", "rw"),
    ("nosuid", "suid"),
    ("nodev", "dev"),
    ("noexec", "exec"),
    ("nosymfollow", "symfollow"),
    ("noatime", "atime"),
    ("nodiratime", "diratime"),
    ("relatime", "norelatime"),
)
# What a file system does not show because it is its default.
_DEFAULTS = {
    "tmpfs": {"mode": "1777", "uid": "0", "gid": "0"},
    "devpts": {"mode": "600", "ptmxmode": "000", "uid": "0", "gid": "0"},
    "proc": {"hidepid": "off", "gid": "0", "subset": ""},
    "overlay": {"index": "off", "metacopy": "off", "nfs_export": "off", "xino": "off", "redirect_dir": "off"},
}
# Options that the kernel takes and never shows.
_SILENT = {"devpts": {"newinstance"}}
# Options that only count when the file system is made: a remount leaves them as they are.
FIXED = {"tmpfs": {"mode", "uid", "gid"}}
_HIDEPID = {"0": "off", "1": "noaccess", "2": "invisible", "4": "ptraceable"}
_SUFFIXES = {"k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}


def flag_words(flags: int) -> list[str]:
    """Per-mount flags as option words."""
    return [word for word, _ in WORDS if flags & FLAGS[word]] or ["rw"]


def change_words(have: int, want: int) -> list[str]:
    """The words that turn flags `have` into `want` however mount(8) merges them: what stays, what comes, what goes."""
    words = []
    for word, opposite in WORDS:
        if want & FLAGS[word]:
            words.append(word)
        elif have & FLAGS[word] or word == "ro":
            words.append(opposite)
    if not want & (FLAGS["relatime"] | FLAGS["noatime"]):
        words = [word for word in words if word not in ("norelatime", "atime")] + ["strictatime"]
    return words


def shown(entry: MountInfo) -> dict[str, str]:
    """The file system's options as mountinfo shows them."""
    return {key: value for key, _, value in (option.partition("=") for option in entry.super_options)}


def layers(entry: MountInfo) -> tuple[list[str], str, str]:
    """lowerdirs (topmost first), upperdir and workdir of an overlay, as they were given."""
    single = [option[len("lowerdir+=") :] for option in entry.super_options if option.startswith("lowerdir+=")]
    have = shown(entry)
    lower = single or split_lowerdirs(have.get("lowerdir", ""))
    return lower, unquote(have.get("upperdir", "")), unquote(have.get("workdir", ""))


def layer_changes(want: Wanted, entry: MountInfo) -> list[str]:
    """How the layers of an overlay differ, one sentence each."""
    lower, upper, work = layers(entry)
    wishes = [list(want.lowerdirs)]
    if len(want.lowerdirs) > 1:  # long lists are mounted relative to what they have in common
        common = os.path.commonpath(want.lowerdirs)
        wishes.append([os.path.relpath(path, common) for path in want.lowerdirs])
    found = [] if lower in wishes else [f"lowerdir {':'.join(lower)} -> {':'.join(want.lowerdirs)}"]
    for name, have, wish in (("upperdir", upper, want.upperdir), ("workdir", work, want.workdir)):
        if have != wish:
            found.append(f"{name} {have or 'none'} -> {wish or 'none'}")
    return found


def data_changes(want: Wanted, entry: MountInfo) -> dict[str, str]:
    """How the file system's options differ, of those that are asked for: option -> sentence."""
    have = shown(entry)
    kind = entry.fstype
    found = {}
    for key, value in want.data().items():
        if key in _SILENT.get(kind, set()):
            continue
        current = have.get(key, _DEFAULTS.get(kind, {}).get(key))
        if current is None or normal(kind, key, current) != normal(kind, key, value):
            found[key] = f"{key} {'unset' if current is None else current or 'set'} -> {value or 'set'}"
    return found


def normal(kind: str, key: str, value: str) -> object:
    """An option's value in the form in which two spellings of one value are equal."""
    if key in ("size", "nr_blocks", "nr_inodes"):
        return _amount(key, value)
    if key in ("mode", "ptmxmode") and value and all(digit in "01234567" for digit in value):
        return int(value, 8)
    if kind == "proc" and key == "hidepid":
        return _HIDEPID.get(value, value)
    return value


def _amount(key: str, value: str) -> object:
    """tmpfs: bytes rounded up to pages for size; a number for the others. Text that is no number stays text."""
    page = os.sysconf("SC_PAGESIZE")
    text = value.lower()
    try:
        if text.endswith("%"):
            return -(-(int(text[:-1]) * os.sysconf("SC_PHYS_PAGES") * page // 100) // page) * page
        factor = _SUFFIXES.get(text[-1:], 1)
        number = int(text[:-1] if factor > 1 else text) * factor
    except ValueError:
        return value
    return -(-number // page) * page if key == "size" else number


def flag_change(want: Wanted, entry: MountInfo) -> tuple[int, int] | None:
    """(flags it has, flags it should have) when they differ and are asked for."""
    if want.options is None and want.read_only is None:
        return None
    have = flags_of(entry)
    wish = want.flags(have)
    return None if have == wish else (have, wish)


def settled(kind: str, current: str) -> bool:
    """Whether a mount's propagation (mountinfo's words) is what `--make-<kind>` would leave."""
    kind = kind[1:] if kind.startswith("r") else kind
    if kind == "slave":  # a private mount has no peer to be the slave of: the call would change nothing
        return current in ("slave", "private")
    return "shared" in current.split(",") if kind == "shared" else current == kind
