"""Brings what people wrote into one form: free text (R1.19), e-mail addresses (R1.20)."""

from __future__ import annotations

import re
import unicodedata
from typing import Final

_TAG: Final = re.compile(r"<[^>]*>")
_JAVASCRIPT: Final = re.compile(r"javascript:", re.IGNORECASE)
_HANDLER: Final = re.compile(r"on\w+\s*=", re.IGNORECASE)


def clean_text(text: str) -> str:
    """Clean free text in the order of R1.19: trim, NFC, tags, javascript:, on…=, NUL."""
    text = unicodedata.normalize("NFC", text.strip())
    if "<" in text:
        text = _TAG.sub("", text)
    text = _JAVASCRIPT.sub("", text)
    if "=" in text:
        text = _HANDLER.sub("", text)
    return text.replace("\0", "")


def normal_email(text: str) -> str:
    """Return the one spelling of an e-mail address: trimmed, lower case (R1.20)."""
    return text.strip().lower()
