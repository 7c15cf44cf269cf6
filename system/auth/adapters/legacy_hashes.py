"""Checks passwords against bcrypt hashes, which the legacy database has (R1.66, R9.1).

The system's own crypt(3) computes them; it is called with the interpreter lock released, so that
other threads go on.  Such a hash is only ever checked: the next login replaces it by Argon2id.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import hmac
import logging
import re
from typing import Final

_log = logging.getLogger(__name__)

_BCRYPT: Final = re.compile(r"\$2[aby]\$\d{2}\$[./A-Za-z0-9]{53}")
# Larger than `struct crypt_data` of any C library.
_STATE_BYTES: Final = 262_144
# In the order in which systems call it when the linker's cache cannot be asked.
_NAMES: Final = ("libcrypt.so.1", "libcrypt.so.2")


def is_legacy(stored: str) -> bool:
    """Whether this is a bcrypt hash."""
    return _BCRYPT.fullmatch(stored) is not None


def matches(password: str, stored: str) -> bool:
    """Whether the password has this bcrypt hash; False where the system cannot compute one."""
    if "\0" in password:
        return False  # C would take what stands before it for the whole password
    if _crypt_r is None:
        _log.error("a legacy password hash cannot be checked: this system has no libcrypt")
        return False
    state = ctypes.create_string_buffer(_STATE_BYTES)
    computed = _crypt_r(password.encode(), stored.encode(), state)
    return computed is not None and hmac.compare_digest(computed, stored.encode())


def _load() -> ctypes._NamedFuncPointer | None:
    for name in (*_NAMES, ctypes.util.find_library("crypt")):
        if name is None:
            continue
        try:
            function = ctypes.CDLL(name).crypt_r
        except (OSError, AttributeError):
            continue
        function.restype = ctypes.c_char_p
        function.argtypes = (ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p)
        return function
    return None


_crypt_r: Final = _load()
