"""Reads input by a `Schema` of fields: all broken rules are reported at once (R1.16).

A `Schema` is data: it is read by `parse`, and described for the API description by `describe`.

    Schema({"email": Email(), "password": NewPassword(), "page": Integer(1, default=1)})
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from system.platform.http.errors import ApiError, Issue, validation
from system.platform.http.field import MISSING, Field, Invalid

# Looks at what could be read and names what does not fit together.
Rule = Callable[[Mapping[str, Any]], Iterable[Issue]]


@dataclass(frozen=True)
class DescribedRule:
    """A rule that JSON Schema can say too.

    Attributes:
        rule: the rule.
        keywords: the same for the schema of the whole input.
    """

    rule: Rule
    keywords: Mapping[str, Any]

    def __call__(self, values: Mapping[str, Any]) -> Iterable[Issue]:
        return self.rule(values)


def at_least_one(*names: str) -> Rule:
    """Make a rule: one of these members must be given."""

    def rule(values: Mapping[str, Any]) -> Iterable[Issue]:
        if not any(name in values for name in names):
            yield Issue((), "custom", f"At least one of {', '.join(names)} is required")

    return DescribedRule(rule, {"anyOf": [{"required": [name]} for name in names]})


class Schema:
    """What an input must look like: a body, a query or path parameters.

    Unknown members are ignored (R1.7).

    Args:
        fields: by member name.
        rules: on several members together; they see the members that are there, a broken one as
            None.
    """

    def __init__(self, fields: Mapping[str, Field], rules: Sequence[Rule] = ()) -> None:
        self.fields = dict(fields)
        self.rules = tuple(rules)

    def collect(self, source: Mapping[str, Any]) -> tuple[dict[str, Any], list[Issue]]:
        """Read `source`; return what was readable and every broken rule."""
        values: dict[str, Any] = {}
        issues: list[Issue] = []
        unreadable: set[str] = set()
        for name, field in self.fields.items():
            value = source.get(name, MISSING)
            if value is MISSING:
                if field.default is not MISSING:
                    values[name] = field.default
                elif not field.optional:
                    unreadable.add(name)
                    issues.append(Issue((name,), "invalid_type", "Required"))
            elif value is None and field.nullable:
                values[name] = None
            else:
                try:
                    values[name] = field.read(value)
                except Invalid as invalid:
                    unreadable.add(name)
                    issues += [issue.below(name) for issue in invalid.issues]
        for rule in self.rules:
            # A member that was given but broken must not be called absent as well.
            issues += rule({**dict.fromkeys(unreadable & source.keys()), **values})
        return values, issues

    def parse(self, source: Mapping[str, Any]) -> dict[str, Any]:
        """Return the members in their normal form.

        Raises:
            ApiError: 400 VALIDATION_ERROR with all issues (R1.16).
        """
        values, issues = self.collect(source)
        if issues:
            raise validation(issues)
        return values

    def describe(self) -> dict[str, Any]:
        """Return the JSON Schema (2020-12) of the input."""
        schema: dict[str, Any] = {
            "type": "object",
            "properties": {name: field.describe() for name, field in self.fields.items()},
        }
        required = [name for name, field in self.fields.items() if not field.is_optional]
        if required:
            schema["required"] = required
        said = [rule.keywords for rule in self.rules if isinstance(rule, DescribedRule)]
        if len(said) == 1:
            schema.update(said[0])
        elif said:
            schema["allOf"] = said
        return schema

    def example(self) -> dict[str, Any]:
        """Return a valid input: the required members, and the optional ones with an `example`.

        Raises:
            ValueError: a required member has no example, or the example breaks a rule.
        """
        example = {
            name: field.shown
            for name, field in self.fields.items()
            if not field.is_optional or field.example is not MISSING
        }
        if missing := [name for name, value in example.items() if value is MISSING]:
            raise ValueError(f"seen no example of {', '.join(missing)}, expected `example=`")
        if issues := self.collect(example)[1]:
            raise ValueError(f"seen the example {example}, expected one without {issues}")
        return example

    def accepts(self, source: Mapping[str, Any]) -> bool:
        """Say whether `source` breaks no rule."""
        return not self.collect(source)[1]


def parse_all(*pairs: tuple[Schema, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Parse several inputs of one request (path and body), with the issues of all at once.

    Raises:
        ApiError: 400 VALIDATION_ERROR.
    """
    collected = [schema.collect(source) for schema, source in pairs]
    issues = [issue for _, found in collected for issue in found]
    if issues:
        raise validation(issues)
    return [values for values, _ in collected]


def broken(path: str, code: str, message: str) -> ApiError:
    """Make a VALIDATION_ERROR of one issue, for a rule that is known only later."""
    return validation([Issue((path,), code, message)])
