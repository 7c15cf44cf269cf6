"""Draws the description of the API as one page of HTML: no script, no request, works offline.

The policy of R5.24 allows styles in the page and no script; opening and closing is done by
`<details>`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from html import escape
from typing import Any, Final

import msgspec

_STYLE: Final = """
:root{color-scheme:light dark;font:16px/1.5 system-ui,sans-serif}
body{max-width:62rem;margin:2rem auto;padding:0 1rem}
details{border:1px solid #8886;border-radius:.4rem;margin:.4rem 0;padding:.4rem .8rem}
summary{cursor:pointer}
code,pre{font:.9rem/1.45 ui-monospace,monospace}
pre{overflow:auto;background:#8881;padding:.6rem;border-radius:.3rem}
table{border-collapse:collapse;width:100%}
th,td{text-align:left;vertical-align:top;border-bottom:1px solid #8884;padding:.3rem .6rem}
.method{display:inline-block;min-width:4.2rem;font-weight:700}
.who{float:right;opacity:.75;font-size:.85rem}
"""


def page(document: Mapping[str, Any]) -> bytes:
    """Draw a document of `domain.description.join`."""
    info = document["info"]
    groups: dict[str, list[str]] = {}
    for path, item in document["paths"].items():
        for method, operation in item.items():
            groups.setdefault(operation["tags"][0], []).append(
                _operation(method.upper(), path, operation)
            )
    parts = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{escape(info['title'])}: API</title><style>{_STYLE}</style></head><body>",
        f"<h1>{escape(info['title'])}: API</h1>",
        f"<p>{escape(info['description'])}</p>",
        f"<p>OpenAPI {escape(document['openapi'])} as <a href='/api-docs.json'>JSON</a> and "
        "<a href='/api-docs.yaml'>YAML</a>.</p>",
    ]
    for tag, operations in groups.items():
        parts += [f"<h2>{escape(tag)}</h2>", *operations]
    parts.append("<h2>Schemas</h2>")
    for name, schema in document["components"]["schemas"].items():
        parts.append(
            f"<details id='schema-{escape(name)}'><summary><code>{escape(name)}</code></summary>"
            f"{_json(schema)}</details>"
        )
    parts.append("</body></html>\n")
    return "\n".join(parts).encode()


def _operation(method: str, path: str, operation: Mapping[str, Any]) -> str:
    who = "public"
    if operation["security"]:
        who = operation.get("description", "any role")
    parts = [
        f"<details id='{escape(operation['operationId'])}'><summary>",
        f"<span class='method'>{method}</span><code>{escape(path)}</code> ",
        f"{escape(operation['summary'])}<span class='who'>{escape(who)}</span></summary>",
    ]
    if parameters := operation.get("parameters"):
        parts.append(
            _table(
                ("Parameter", "In", "Required", "Schema"),
                (
                    (
                        f"<code>{escape(parameter['name'])}</code>",
                        escape(parameter["in"]),
                        "yes" if parameter["required"] else "no",
                        _json(parameter["schema"]),
                    )
                    for parameter in parameters
                ),
            )
        )
    if body := operation.get("requestBody"):
        content = body["content"]["application/json"]
        parts += [
            "<h3>Body</h3>",
            _json(content["schema"]),
            "<h3>Example</h3>",
            _json(content["example"]),
        ]
    parts.append(
        _table(
            ("Status", "Meaning", "Data"),
            (
                (status, escape(answer["description"]), _data(answer))
                for status, answer in operation["responses"].items()
            ),
        )
    )
    parts.append("</details>")
    return "".join(parts)


def _data(answer: Mapping[str, Any]) -> str:
    content = answer.get("content", {}).get("application/json", {})
    properties = content.get("schema", {}).get("properties", {})
    return _json(properties["data"]) if "data" in properties else ""


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    first = "".join(f"<th scope='col'>{cell}</th>" for cell in head)
    rest = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><thead><tr>{first}</tr></thead><tbody>{rest}</tbody></table>"


def _json(value: Any) -> str:
    text = msgspec.json.format(msgspec.json.encode(value)).decode()
    return f"<pre>{escape(text)}</pre>"
