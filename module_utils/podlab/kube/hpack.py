"""Header fields as HTTP/2 writes them (RFC 7541): all of reading, and of writing what needs no memory. Pure.

The pod supervisor imports this file, hence no import, and no table that is not needed before a probe.
"""

from __future__ import annotations

# Appendix A. Names that stand alone have no value.
_STATIC = (
    ":authority|:method GET|:method POST|:path /|:path /index.html|:scheme http|:scheme https|:status 200|:status 204|"
    ":status 206|:status 304|:status 400|:status 404|:status 500|accept-charset|accept-encoding gzip, deflate|"
    "accept-language|accept-ranges|accept|access-control-allow-origin|age|allow|authorization|cache-control|"
    "content-disposition|content-encoding|content-language|content-length|content-location|content-range|content-type|"
    "cookie|date|etag|expect|expires|from|host|if-match|if-modified-since|if-none-match|if-range|if-unmodified-since|"
    "last-modified|link|location|max-forwards|proxy-authenticate|proxy-authorization|range|referer|refresh|retry-after|"
    "server|set-cookie|strict-transport-security|transfer-encoding|user-agent|vary|via|www-authenticate"
)
# Appendix B: the length of each symbol's code, A for 5 bits. The codes follow from the lengths: shorter ones first, of
# one length in the order of the symbols.
_LENGTHS = (
    "ISXXXXXXXTZXXZXXXXXXXXZXXXXXXXXXBFFHIBDGFFDGDBBBAAABBBBBBBCDKBHFIBCCCCCCCCCCCCCCCCCCCCCCDCDIOIJBKABABABBBACCBBBABCB"
    "AABCCCCCKGJIXPRPPRRRSRSSSSSTSTTRSTSSSSQRSRSSTRQPRRSSQSRRTQRSSQQRQSRSSPRRRSRRSVVPORSRUVVVWWVTUOQVWWVWTQQVVXWWWPTPQRQQS"
    "RRUUTTVSVWVVWWWWWXWWWWWVZ"
)
_END = 256
TABLE_LIMIT = 4096
_OVERHEAD = 32


def literal(name: str, value: str) -> bytes:
    """A field that neither side remembers, not Huffman-coded (6.2.2)."""
    return b"\x00" + _string(name.encode()) + _string(value.encode())


def _string(data: bytes) -> bytes:
    if len(data) < 127:
        return bytes([len(data)]) + data
    rest, more = len(data) - 127, b""
    while rest > 127:
        more += bytes([128 | rest % 128])
        rest //= 128
    return b"\x7f" + more + bytes([rest]) + data


class Decoder:
    """Reads the header blocks of one connection, in their order."""

    def __init__(self) -> None:
        pairs = (entry.partition(" ") for entry in _STATIC.split("|"))
        self._static = [(name.encode(), value.encode()) for name, _, value in pairs]
        self._dynamic: list[tuple[bytes, bytes]] = []
        self._limit = TABLE_LIMIT
        self._codes: dict[tuple[int, int], int] = {}

    def decode(self, block: bytes) -> list[tuple[bytes, bytes]]:
        """The fields of a block. Raises ValueError when it is none."""
        found: list[tuple[bytes, bytes]] = []
        at = 0
        while at < len(block):
            first = block[at]
            if first & 0x80:
                index, at = _integer(block, at, 7)
                found.append(self._entry(index))
            elif first & 0xC0 == 0x40:
                field, at = self._field(block, at, 6)
                found.append(field)
                self._remember(field)
            elif first & 0xE0 == 0x20:
                limit, at = _integer(block, at, 5)
                if limit > TABLE_LIMIT:
                    raise ValueError(f"a table of {limit} bytes, more than {TABLE_LIMIT}")
                self._limit = limit
                self._evict()
            else:
                field, at = self._field(block, at, 4)
                found.append(field)
        return found

    def _entry(self, index: int) -> tuple[bytes, bytes]:
        if 0 < index <= len(self._static):
            return self._static[index - 1]
        if 0 <= index - len(self._static) - 1 < len(self._dynamic):
            return self._dynamic[index - len(self._static) - 1]
        raise ValueError(f"no field has the index {index}")

    def _field(self, block: bytes, at: int, bits: int) -> tuple[tuple[bytes, bytes], int]:
        index, at = _integer(block, at, bits)
        if index:
            name = self._entry(index)[0]
        else:
            name, at = self._text(block, at)
        value, at = self._text(block, at)
        return (name, value), at

    def _text(self, block: bytes, at: int) -> tuple[bytes, int]:
        if at >= len(block):
            raise ValueError("it ends in the middle of a field")
        coded = block[at] & 0x80
        length, at = _integer(block, at, 7)
        data = block[at : at + length]
        if len(data) < length:
            raise ValueError("it ends in the middle of a field")
        return (self._unpack(data) if coded else data), at + length

    def _remember(self, field: tuple[bytes, bytes]) -> None:
        self._dynamic.insert(0, field)
        self._evict()

    def _evict(self) -> None:
        while sum(len(name) + len(value) + _OVERHEAD for name, value in self._dynamic) > self._limit:
            self._dynamic.pop()

    def _unpack(self, data: bytes) -> bytes:
        """Huffman's code undone. What is left at the end is padding: the beginning of the end's code, all ones."""
        codes = self._codes = self._codes or _codes()
        out, code, length = bytearray(), 0, 0
        for byte in data:
            for bit in range(7, -1, -1):
                code, length = code << 1 | (byte >> bit & 1), length + 1
                symbol = codes.get((length, code))
                if symbol is None:
                    if length > 30:
                        raise ValueError("no symbol has such a code")
                    continue
                if symbol == _END:
                    raise ValueError("the end of a text in its middle")
                out.append(symbol)
                code = length = 0
        if length > 7 or code != (1 << length) - 1:
            raise ValueError("a text is padded wrongly")
        return bytes(out)


def _codes() -> dict[tuple[int, int], int]:
    """(length, code) -> symbol."""
    lengths = [ord(letter) - ord("A") + 5 for letter in _LENGTHS]
    found: dict[tuple[int, int], int] = {}
    code, before = 0, 0
    for symbol in sorted(range(len(lengths)), key=lambda symbol: (lengths[symbol], symbol)):
        code <<= lengths[symbol] - before
        before = lengths[symbol]
        found[before, code] = symbol
        code += 1
    return found


def _integer(block: bytes, at: int, bits: int) -> tuple[int, int]:
    """An integer with a prefix of so many bits (5.1), and where the rest begins."""
    most = (1 << bits) - 1
    value = block[at] & most
    at += 1
    if value < most:
        return value, at
    shift = 0
    while True:
        if at >= len(block) or shift > 21:
            raise ValueError("an integer that is cut off or too large")
        byte = block[at]
        at += 1
        value += (byte & 127) << shift
        shift += 7
        if not byte & 128:
            return value, at
