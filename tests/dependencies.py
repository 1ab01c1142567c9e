"""docs/dependencies.md: every pin of constraints.txt, where it is used, why it is there, and its licence.

    python -m tests.dependencies >docs/dependencies.md

It takes an environment with all extras: what a package asks for, and its licence, are read from what is installed.
"""

import re
import tomllib
from collections.abc import Sequence
from importlib.metadata import distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
DOCUMENT = ROOT / "docs/dependencies.md"
IMAGE = "webhook's image"
EXTRAS = ("webhook", "check", "demo", "test", "lint")  # from what runs in a cluster to what runs nowhere but here

_HEADER = """\
# What podrate depends on

The loader and the command line stand on Python's standard library, libbpf and libnl: nothing of the table is in a
limited pod. The webhook's image has the packages below that say so, at these very versions, and no others: it is built
by `pip install --only-binary :all: -c constraints.txt`, and a test compares what is in it with this page.

{count} pins, {shipped} of them in the image. `pyproject.toml` has the lower bounds, `constraints.txt` the versions that
every environment and image is made of, and that passed the tests. Each is there because podrate uses it, or because
what it uses asks for it. *Used by* is the first of podrate's extras that has it.

No audit for known vulnerabilities is part of this repository's checks: the data of `pip-audit` and its like is only to
be had online. Run one on your side: `pip-audit -r constraints.txt`, or a scanner of images, which finds the Python
packages by their `*.dist-info` and Debian's by `/var/lib/dpkg`. Debian's packages are not pinned: an image is built
with what the suite has that day, its security updates too.

This page is made by `make docs`, and tested against `constraints.txt`, `pyproject.toml` and the image.

| pin | used by | why | licence, as it declares it |
|---|---|---|---|
"""


def pins() -> dict[str, str]:
    """constraints.txt: versions by name."""
    lines = (line.strip() for line in (ROOT / "constraints.txt").read_text().splitlines())
    return dict(line.split("==") for line in lines if line and not line.startswith("#"))


def removed() -> set[str]:
    """What Dockerfile.webhook takes out again, by canonical name."""
    (names,) = re.findall(r"pip uninstall --yes --quiet \\\n(.*?) &&", (ROOT / "Dockerfile.webhook").read_text())
    return {canonicalize_name(name) for name in names.split()}


def reasons() -> dict[str, list[str]]:
    """The comments in pyproject.toml beside what podrate asks for itself, by canonical name."""
    found: dict[str, list[str]] = {}
    extras = (ROOT / "pyproject.toml").read_text().partition("[project.optional-dependencies]")[2].partition("\n[")[0]
    for name, why in re.findall(r'^ +"([\w.-]+)[^"]*", # (.+)$', extras, re.MULTILINE):
        found.setdefault(canonicalize_name(name), []).append(why)
    return found


def needed(extra: str) -> dict[str, set[str]]:
    """What an extra installs, by canonical name, and whose wish each is; "" for podrate's own."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    pending = [("", Requirement(each)) for each in project["optional-dependencies"][extra]]
    found: dict[str, set[str]] = {}
    while pending:
        who, wish = pending.pop()
        name = canonicalize_name(wish.name)
        if name == "podrate":
            pending += [("", Requirement(each)) for it in wish.extras for each in project["optional-dependencies"][it]]
            continue
        seen = name in found
        found.setdefault(name, set()).add(who)
        for each in () if seen and not wish.extras else map(Requirement, distribution(name).requires or ()):
            if each.marker is None or any(each.marker.evaluate({"extra": it}) for it in ("", *wish.extras)):
                pending.append((distribution(name).name, each))
    return found


def licence(name: str) -> str:
    """What the package says of it: an SPDX expression, else its classifiers."""
    metadata = distribution(name).metadata
    if "License-Expression" in metadata:
        return metadata["License-Expression"]
    classifiers = [each.rpartition(" :: ")[2] for each in metadata.get_all("Classifier", ()) if each[:7] == "License"]
    return "; ".join(classifiers) or metadata["License"]


def rows(extras: Sequence[str] = EXTRAS) -> dict[str, str]:
    """The rows of the pins that these extras use."""
    why, wanted, found = reasons(), {extra: needed(extra) for extra in extras}, {}
    for name, version in pins().items():
        key = canonicalize_name(name)
        if not (first := next((extra for extra in extras if key in wanted[extra]), None)):
            continue
        wishes = wanted[first][key]
        whose = [] if "" in wishes else [f"of {', '.join(sorted(wishes, key=str.lower))}"]
        where = first if first != "webhook" else f"{first}, not in the image" if key in removed() else IMAGE
        found[name] = f"| {name}=={version} | {where} | {'; '.join(whose + why.get(key, []))} | {licence(name)} |\n"
    return found


def document() -> str:
    """The page. It is an error if nothing needs a pin."""
    made = rows()
    if unneeded := pins().keys() - made.keys():
        raise SystemExit(f"constraints.txt: nothing needs {', '.join(sorted(unneeded))}")
    shipped = sum(f"| {IMAGE} |" in row for row in made.values())
    return _HEADER.format(count=len(made), shipped=shipped) + "".join(made.values())


if __name__ == "__main__":
    print(document(), end="")
