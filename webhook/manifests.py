"""Kubernetes objects in YAML or JSON text, as kubectl reads them: several documents, Lists, and where each began."""

import codecs
import json
import re
from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from typing import Any

import yaml

# What a plain word is to Kubernetes' YAML (yaml.v2, resolve.go): y is a boolean and 08 a number. A date is a string,
# and so is 12:30:45, in which YAML 1.1 sees a number to the base of 60.
_PLAIN = {
    "bool": r"y|Y|yes|Yes|YES|on|On|ON|true|True|TRUE|n|N|no|No|NO|off|Off|OFF|false|False|FALSE",
    "int": r"[-+]?(0b[01_]+|0o?[0-7_]+|0x[0-9a-fA-F_]+|0|[1-9][0-9_]*)",
    "float": r"[-+]?(\.[0-9_]+|[0-9][0-9_]*(\.[0-9_]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
}
_FIRST = {"bool": list("yYnNtTfFoO"), "int": list("-+0123456789"), "float": list("-+0123456789.")}
_REPLACED = [f"tag:yaml.org,2002:{kind}" for kind in (*_PLAIN, "timestamp", "value")]

# Values in a document when its aliases are written out; those of a large cluster are fewer. kubectl has a bound too.
_MOST = 10_000_000
_BLANK = " \t\r\n"  # to JSON


class Unreadable(ValueError):
    """Text that is no manifest: where (counted from 1; None where nothing can be said), and why in one line."""

    def __init__(self, reason: str, line: int | None = None, column: int | None = None) -> None:
        super().__init__(reason)
        self.line = line
        self.column = column


@dataclass(frozen=True)
class Manifest:
    """One object, and the line of its text that it begins in, from 1."""

    raw: dict[str, Any]
    line: int


class _Loader(yaml.SafeLoader):
    """YAML as sigs.k8s.io/yaml reads it, and the line of each mapping in `lines`, by its id."""

    bool_values = yaml.SafeLoader.bool_values | {"y": True, "n": False}

    def __init__(self, stream: bytes) -> None:
        super().__init__(stream)
        self.lines: dict[int, int] = {}
        self.made: list[object] = []  # or a new object could come to have the id of one that is gone

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        """Strict: of a key that is there twice, one would be silently absent."""
        seen = set()
        for key, _ in node.value:  # as they are written here: what `<<: *base` brings may be overruled
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    raise yaml.constructor.ConstructorError(None, None, f"{key.value!a} is there twice", key.start_mark)
                seen.add(key.value)
        return super().construct_mapping(node, deep)

    def _mapping(self, node: yaml.MappingNode) -> Iterator[dict[Hashable, Any]]:
        it: dict[Hashable, Any] = {}
        self.lines[id(it)] = node.start_mark.line + 1
        self.made.append(it)
        yield it
        it.update(self.construct_mapping(node))


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag not in _REPLACED]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
for _kind, _pattern in _PLAIN.items():
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_kind}", re.compile(rf"(?:{_pattern})\Z"), _FIRST[_kind])
_Loader.add_constructor("tag:yaml.org,2002:map", _Loader._mapping)


def read(text: bytes) -> Iterator[Manifest]:
    """The objects in `text`, those of Lists one by one. Raises Unreadable, after those before the trouble."""
    try:
        if (documents := _json(text)) is not None:
            for line, document in documents:
                yield from _objects(document, {}, line)
            return
        loader = _Loader(text)
        while loader.check_data():  # type: ignore[no-untyped-call]
            line = loader.line + 1
            document = loader.get_data()
            if _size(document, {}) > _MOST:
                raise Unreadable("it is too large, or without end, when its aliases are written out", line)
            if document is not None:
                yield from _objects(document, loader.lines, line)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = (mark.line + 1, mark.column + 1) if mark else (None, None)
        raise Unreadable(f"not YAML: {_one_line(error.problem or error.context)}", *place) from None
    except yaml.reader.ReaderError as error:
        raise Unreadable(f"not YAML: {_one_line(str(error).splitlines()[0])}", *_place(text, error)) from None
    except (yaml.YAMLError, ValueError) as error:  # of ValueErrors: a number of thousands of digits
        if isinstance(error, Unreadable):
            raise
        raise Unreadable(f"not YAML: {_one_line(error)}") from None
    except RecursionError:
        raise Unreadable("it is nested too deeply") from None


def _size(it: object, known: dict[int, int]) -> int:
    """How many values are in `it`, each as often as aliases name it."""
    if not isinstance(it, dict | list):
        return 1
    if id(it) not in known:
        known[id(it)] = _MOST  # until it is known: what contains itself has no end
        known[id(it)] = 1 + sum(_size(each, known) for each in (it.values() if isinstance(it, dict) else it))
    return known[id(it)]


def _place(text: bytes, error: yaml.reader.ReaderError) -> tuple[int, int]:
    """The line and column of a character that no YAML has, or of bytes that are none."""
    if error.encoding == "unicode":  # so PyYAML calls what it could decode; then it has counted characters
        encoding = "utf-16" if text.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8"
        before = text.decode(encoding, "replace")[: error.position]
    else:
        before = text[: error.position].decode(error.encoding, "replace")
    return before.count("\n") + 1, len(before) - before.rfind("\n")


def _json(text: bytes) -> list[tuple[int, object]] | None:
    """What `text` is as JSON, and where: it is not quite a part of YAML, for it has tabs, and surrogates in pairs.

    Several objects may follow one another, as jq writes them.
    """
    text = text.removeprefix(codecs.BOM_UTF8)
    if not text.lstrip().startswith(b"{"):
        return None

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(it := dict(pairs)) < len(pairs):
            raise ValueError  # YAML's turn, which says where
        return it

    documents: list[tuple[int, object]] = []
    decoder = json.JSONDecoder(object_pairs_hook=once)
    try:
        it = text.decode().rstrip(_BLANK)
        end, line = 0, 1
        while end < len(it):
            start = end
            while it[start] in _BLANK:
                start += 1
            line += it.count("\n", end, start)
            document, end = decoder.raw_decode(it, start)
            documents.append((line, document))
            line += it.count("\n", start, end)
    except ValueError:
        return None
    return documents


def _objects(document: object, lines: dict[int, int], start: int) -> Iterator[Manifest]:
    line = lines.get(id(document), start)
    if not isinstance(document, dict):
        raise Unreadable(f"a Kubernetes object is a mapping, not {_kind_of(document)}", line)
    kind, version = document.get("kind"), document.get("apiVersion")
    if not isinstance(kind, str) or not isinstance(version, str) or not kind or not version:
        raise Unreadable("apiVersion or kind is missing, so this is no Kubernetes object", line)
    items = document.get("items")
    if kind.endswith("List") and isinstance(items, list):
        for item in items:
            # A typed List's items need not say again what they are.
            inherited = {"apiVersion": version, "kind": kind.removesuffix("List")} if kind != "List" else {}
            whole = inherited | item if isinstance(item, dict) else item
            yield from _objects(whole, {id(whole): lines.get(id(item), line)}, line)
    else:
        yield Manifest(document, line)


def _kind_of(document: object) -> str:
    return {list: "a list", str: "text", bool: "a boolean", type(None): "null"}.get(type(document), "a number")


def _one_line(what: object) -> str:
    return ascii(" ".join(str(what).split()))[1:-1]
