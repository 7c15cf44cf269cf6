"""Fields that are numbers: whole ones, and exact amounts of money (R1.102)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any, Final

from system.platform.http.field import Field, invalid, type_name

_AMOUNT: Final = re.compile(r"\d{1,12}(?:\.\d{1,2})?")
_INTEGER: Final = re.compile(r"-?\d{1,15}")
# What has so many digits, and so fits every column and every reader.
LARGEST: Final = 999_999_999_999_999
MINIMUM_AMOUNT: Final = Decimal("0.01")
MAXIMUM_AMOUNT: Final = Decimal("10000000.00")
_CENT: Final = Decimal("0.01")
# The texts between the two, for the API description.
_PAYABLE: Final = (
    r"^0{0,4}(?:0\.(?:0[1-9]|[1-9][0-9]?)|[1-9][0-9]{0,6}(?:\.[0-9]{1,2})?|10000000(?:\.00?)?)$"
)


@dataclass(frozen=True)
class Integer(Field):
    """A whole number; as text too, since query parameters are text.

    Attributes:
        minimum: smallest allowed.
        maximum: largest allowed.
    """

    minimum: int = -LARGEST
    maximum: int = LARGEST

    def read(self, value: Any) -> int:
        number = self._number(value)
        if number < self.minimum:
            raise invalid("too_small", f"Must be at least {self.minimum}", minimum=self.minimum)
        if number > self.maximum:
            raise invalid("too_big", f"Must be at most {self.maximum}", maximum=self.maximum)
        return number

    @staticmethod
    def _number(value: Any) -> int:
        if isinstance(value, int) and not isinstance(value, bool):
            return value
        # In JSON 5.0 is a whole number too (JSON Schema 2020-12, 6.1.1).
        if isinstance(value, float) and abs(value) <= LARGEST and value.is_integer():
            return int(value)
        if isinstance(value, str) and _INTEGER.fullmatch(value) and value.isascii():
            return int(value)
        raise invalid("invalid_type", "Expected a whole number", expected="integer")

    def sample(self) -> Any:
        return min(max(self.minimum, 1), self.maximum)

    def json_schema(self) -> dict[str, Any]:
        return {"type": "integer", "minimum": self.minimum, "maximum": self.maximum}


@dataclass(frozen=True)
class Amount(Field):
    """Money with at most two decimals, exact, never rounded (R1.102); read as a Decimal.

    Attributes:
        minimum: smallest allowed.
        maximum: largest allowed.
    """

    minimum: Decimal = MINIMUM_AMOUNT
    maximum: Decimal = MAXIMUM_AMOUNT

    def read(self, value: Any) -> Decimal:
        amount = self._exact(value)
        if amount < self.minimum:
            raise invalid(
                "too_small", f"Must be at least {self.minimum}", minimum=float(self.minimum)
            )
        if amount > self.maximum:
            raise invalid("too_big", f"Must be at most {self.maximum}", maximum=float(self.maximum))
        return amount.quantize(_CENT)

    @staticmethod
    def _exact(value: Any) -> Decimal:
        if isinstance(value, bool) or not isinstance(value, str | int | float | Decimal):
            raise invalid(
                "invalid_type",
                f"Expected amount, received {type_name(value)}",
                expected="string",
                received=type_name(value),
            )
        if isinstance(value, str):
            if not value.isascii() or _AMOUNT.fullmatch(value) is None:
                raise invalid(
                    "invalid_string", "Must be a decimal number with at most two decimals"
                )
            return Decimal(value)
        try:
            # repr gives the shortest text that means this number, which is what was written.
            amount = Decimal(repr(value)) if isinstance(value, float) else Decimal(value)
            exact = amount.is_finite() and amount == amount.quantize(_CENT)
        except InvalidOperation:
            # More digits than can be money; the bounds say which way.
            return amount
        if not exact:
            raise invalid("custom", "Must have at most two decimals")
        return amount

    def sample(self) -> Any:
        return "100.50"

    def json_schema(self) -> dict[str, Any]:
        return {
            "oneOf": [
                {"type": "string", "pattern": self._form()},
                {
                    "type": "number",
                    "minimum": float(self.minimum),
                    "maximum": float(self.maximum),
                    "multipleOf": 0.01,
                },
            ]
        }

    def _form(self) -> str:
        if (self.minimum, self.maximum) == (MINIMUM_AMOUNT, MAXIMUM_AMOUNT):
            return _PAYABLE
        return "^[0-9]{1,12}(?:\\.[0-9]{1,2})?$"
