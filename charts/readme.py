"""python -m charts.readme: rewrite the table of values in charts/podrate/README.md.

It is made of the comments of values.yaml, and of values.schema.json, which says what is allowed.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import yaml

CHART = Path(__file__).with_name("podrate")
README = CHART / "README.md"
BEGIN, END = "<!-- values: made by `make docs` of values.yaml and values.schema.json -->", "<!-- end of values -->"

Schema = dict[str, Any]


class Value(NamedTuple):
    """One of the chart's values, as values.yaml has it.

    name:     webhook.image.tag
    default:  as a user would write it, in one line
    says:     the comment above it, or "" when there is none
    """

    name: str
    default: str
    says: str


def values() -> list[Value]:
    """The values, in their order. A mapping is a value of its own where no comment is above any of its keys."""
    text = (CHART / "values.yaml").read_text()
    root = yaml.compose(text, yaml.SafeLoader)
    return list(_values(root, "", text.splitlines()))


def _values(mapping: Any, prefix: str, lines: list[str]) -> Iterator[Value]:  # noqa: ANN401  yaml's nodes are untyped
    for key, node in mapping.value:
        name = prefix + key.value
        if isinstance(node, yaml.MappingNode) and any(_comment(child, lines) for child, _ in node.value):
            yield from _values(node, f"{name}.", lines)
        else:
            default = yaml.safe_load(yaml.serialize(node))
            yield Value(name, _in_one_line(default), _comment(key, lines))


def _comment(key: Any, lines: list[str]) -> str:  # noqa: ANN401
    """The comment right above a key, its lines made one: a table has no others."""
    found: list[str] = []
    for line in reversed(lines[: key.start_mark.line]):
        if key.start_mark.column != len(line) - len(line.lstrip()) or not line.lstrip().startswith("#"):
            break
        found.insert(0, line.strip().removeprefix("#").strip())
    return " ".join(found)


def _in_one_line(default: object) -> str:
    return json.dumps(default, ensure_ascii=False)


def schema() -> dict[str, Schema]:
    """What values.schema.json allows for each value, by its name: sections too, `global` (Helm's own) not."""
    root = json.loads((CHART / "values.schema.json").read_text())
    return dict(_schema(root, "", root["definitions"]))


def _schema(schema: Schema, prefix: str, definitions: dict[str, Schema]) -> Iterator[tuple[str, Schema]]:
    for key, each in schema.get("properties", {}).items():
        if prefix + key == "global":
            continue
        resolved = _resolved(each, definitions)
        yield prefix + key, resolved
        yield from _schema(resolved, f"{prefix}{key}.", definitions)


def _resolved(schema: Schema, definitions: dict[str, Schema]) -> Schema:
    """The schema itself, where it refers to definitions; the parts of an allOf as one."""
    if "$ref" in schema:
        return _resolved(definitions[schema["$ref"].rpartition("/")[2]], definitions)
    merged = dict(schema)
    for part in merged.pop("allOf", ()):
        merged |= _resolved(part, definitions)
    return merged


def allowed(schema: Schema) -> str:
    """What a schema allows, in a few words."""
    if "enum" in schema:
        return ", ".join(str(each) for each in schema["enum"])
    match schema.get("type"):
        case "integer":
            least, most = schema.get("minimum"), schema.get("maximum")
            return f"{least} to {most}" if most is not None else f"{least} or more"
        case "boolean":
            return "true, false"
        case "array":
            return "a list"
        case "object":
            return "a mapping"
        case _:
            return "text"


def table() -> str:
    """The table, in Markdown."""
    schemas = schema()
    rows = [
        f"| `{value.name}` | `{value.default}` | {allowed(schemas[value.name])} | {value.says} |" for value in values()
    ]
    return "\n".join(("| value | default | allowed | |", "|---|---|---|---|", *rows))


def rewritten(readme: str) -> str:
    """The README with the table as it should be."""
    before, begin, rest = readme.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{README}: no line {(END if begin else BEGIN)!r}")
    return f"{before}{BEGIN}\n\n{table()}\n\n{END}{after}"


if __name__ == "__main__":
    README.write_text(rewritten(README.read_text()))
