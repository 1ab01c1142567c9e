"""The committed object and user space agree on the maps' values: read from the object's own BTF."""

import json
import shutil
import subprocess

import pytest

from loader import adopt, bucket, shaper

bpftool = shutil.which("bpftool") or shutil.which("/usr/sbin/bpftool")


def structs_of(path: str) -> dict[str, dict[str, int]]:
    """Each struct's members and their offsets in bytes; its size is under ""."""
    if bpftool is None:
        pytest.skip("bpftool is missing: apt-get install bpftool")
    dump = subprocess.run([bpftool, "-j", "btf", "dump", "file", path], capture_output=True, check=True)
    return {
        each["name"]: {"": each["size"], **{m["name"]: m["bits_offset"] // 8 for m in each["members"]}}
        for each in json.loads(dump.stdout)["types"]
        if each["kind"] == "STRUCT"
    }


@pytest.fixture(scope="module", params=[shaper.OBJECT, shaper.OBJECT_V2])
def structs(request: pytest.FixtureRequest) -> dict[str, dict[str, int]]:
    return structs_of(request.param)


def test_limit(structs: dict[str, dict[str, int]]) -> None:
    fields = structs["podrate_limit"]
    assert fields == {"": 128, "reserved": 104, **{name: 8 * i for i, name in enumerate(bucket.BucketLimit._fields)}}


def test_bucket(structs: dict[str, dict[str, int]]) -> None:
    assert structs["podrate_bucket"]["limit"] == 0
    assert structs["podrate_bucket"]["tat"] == 136
    assert structs["podrate_bucket"]["price"] == 144
    assert structs["podrate_bucket"][""] == bucket.Buckets.MAPS["buckets"]


def test_counters(structs: dict[str, dict[str, int]]) -> None:
    names = [name.removesuffix("_ns") for name in bucket.Counters._fields]  # the kernel counts ticks
    assert structs["podrate_counters"] == {"": 8 * len(names), **{name: 8 * i for i, name in enumerate(names)}}


def test_shaper(structs: dict[str, dict[str, int]]) -> None:
    assert structs["podrate_shaper"] == {"": 24, "parts": 0, "refused": 8, "connections": 16}


def test_adoption() -> None:
    fields = structs_of(adopt.OBJECT)["podrate_adoption"]
    names = ("cgroup", "pace", *adopt.Census._fields)
    assert fields == {"": 8 * len(names), **{name: 8 * i for i, name in enumerate(names)}}
