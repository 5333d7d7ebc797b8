"""SHA-2 without OpenSSL: hashlib would map libcrypto into every supervisor."""

from __future__ import annotations

try:
    from _sha256 import sha256  # type: ignore[import-not-found]
    from _sha512 import sha512  # type: ignore[import-not-found]
except ImportError:
    try:
        from _sha2 import sha256, sha512  # type: ignore[import-not-found]
    except ImportError:
        from hashlib import sha256, sha512


def hexdigest(text: str) -> str:
    """64 hex digits of the text's SHA-256."""
    return str(sha256(text.encode()).hexdigest())


def sha512_digest(text: str) -> str:
    """128 hex digits of the text's SHA-512."""
    return str(sha512(text.encode()).hexdigest())
