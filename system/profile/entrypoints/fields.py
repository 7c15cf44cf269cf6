"""The kinds of input that only profiles have (R1.149-R1.151)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from system.platform.http.errors import Issue
from system.platform.http.field import Field, Invalid, type_name
from system.platform.http.json_fields import Boolean
from system.platform.http.text_fields import Matching, Text
from system.platform.http.validation import Schema
from system.profile import domain

# What a cleared field is read as: null and "" mean the same (R1.149).
CLEARED: Final = ""

_LENGTH: Final = Text(domain.PHONE_MINIMUM, domain.PHONE_MAXIMUM, clean=False)
_SIGNS: Final = Matching(domain.PHONE_PATTERN, "Expected digits, blanks and + ( ) . - / only")
_ANY_TEXT: Final = Text(clean=False)
# For the API description: addresses as most are, and images by how their base64 begins.
_HTTPS: Final = r"^https://[a-z0-9]{1,20}(\.[a-z0-9]{1,20}){0,3}(/[A-Za-z0-9._~-]{0,20}){0,9}$"
_GROUPS: Final = "([A-Za-z0-9+/]{4}){0,99}$"
_IMAGES: Final = (
    rf"^data:image/png;base64,iVBORw0KGg[o-r][A-Za-z0-9+/]{_GROUPS}",
    rf"^data:image/jpeg;base64,/9j/{_GROUPS}",
    rf"^data:image/gif;base64,R0lGOD[dl]h{_GROUPS}",
    rf"^data:image/webp;base64,UklGR[g-v][A-Za-z0-9+/]{{4}}[BFJNRVZdhlptx159]XRUJQ{_GROUPS}",
)
_CHANNELS: Final = Schema({name: Boolean(optional=True) for name in domain.CHANNELS})


@dataclass(frozen=True)
class Phone(Field):
    """A telephone number as people write it (R1.149)."""

    def read(self, value: Any) -> str:
        issues: list[Issue] = []
        for field in (_LENGTH, _SIGNS):
            try:
                field.read(value)
            except Invalid as invalid:
                issues += [issue for issue in invalid.issues if issue not in issues]
        if issues:
            raise Invalid(*issues)
        return str(value)

    def json_schema(self) -> dict[str, Any]:
        return {**_LENGTH.json_schema(), **_SIGNS.json_schema()}


@dataclass(frozen=True)
class Avatar(Field):
    """An https URL or an image as data URL (R1.150)."""

    def read(self, value: Any) -> str:
        text = _ANY_TEXT.read(value)
        if not domain.is_avatar(text):
            raise _invalid(
                "Expected an https URL, or a base64 data URL of a PNG, JPEG, GIF or WebP image"
            )
        return text

    def json_schema(self) -> dict[str, Any]:
        # Not all that is taken, but nothing that is not.
        images = [{"type": "string", "pattern": pattern} for pattern in _IMAGES]
        return {"anyOf": [{"type": "string", "pattern": _HTTPS, "maxLength": 2048}, *images]}


@dataclass(frozen=True)
class Timezone(Field):
    """A name of the IANA database (R1.151)."""

    def read(self, value: Any) -> str:
        text = _ANY_TEXT.read(value)
        if text not in domain.timezones():
            raise _invalid("Expected the name of a time zone of the IANA database, or UTC")
        return text

    def json_schema(self) -> dict[str, Any]:
        return {"type": "string", "enum": sorted(domain.timezones())}


@dataclass(frozen=True)
class Channels(Field):
    """Which ways of notifying are wanted; those not named stay as they are (R1.151)."""

    def read(self, value: Any) -> dict[str, bool]:
        if not isinstance(value, dict):
            seen = type_name(value)
            extra = {"expected": "object", "received": seen}
            raise Invalid(Issue((), "invalid_type", f"Expected object, received {seen}", extra))
        values, issues = _CHANNELS.collect(value)
        if issues:
            raise Invalid(*issues)
        return values

    def json_schema(self) -> dict[str, Any]:
        return _CHANNELS.describe()


@dataclass(frozen=True)
class Clearable(Field):
    """What another field takes, or null or "" to clear it (R1.149).

    Attributes:
        inner: for everything else.
    """

    inner: Field = _ANY_TEXT

    def read(self, value: Any) -> Any:
        return CLEARED if value is None or value == "" else self.inner.read(value)

    def json_schema(self) -> dict[str, Any]:
        return {"anyOf": [self.inner.describe(), {"const": ""}, {"type": "null"}]}


def _invalid(message: str) -> Invalid:
    return Invalid(Issue((), "invalid_string", message))
