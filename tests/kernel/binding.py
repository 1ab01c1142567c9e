"""What the binding does with whatever libbpf and Python it is started by, as JSON: binding.py CGROUP BAD_OBJECT.

A script, for other distributions' root file systems, where there is no pytest.
"""

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from bandwidth.limit import Limit, encode
from loader import adopt, bpf
from loader.attached import find_attached
from loader.shaper import Shaper, attached_ids

cgroup, bad = sys.argv[1:]
done: dict[str, object] = {"libbpf": bpf.libbpf_version(), "python": sys.version_info[:2]}

with Shaper() as shaper:
    shaper.buckets.set(Limit(10_000_000, 20_000_000))
    shaper.attach(cgroup, bpf.EXCLUSIVE)
    done["attached"] = attached_ids(cgroup) == tuple((each,) for each in shaper.program_ids)
    frame = bytes(12) + b"\x08\x00" + b"\x45" + bytes(99)
    done["verdict"] = shaper.programs[1].test_run(frame, 1, 10)[0]
with find_attached(cgroup) as attached:  # type: ignore[union-attr]
    done["limit"] = encode(attached.buckets.limit())
    attached.detach()
with bpf.ObjectSpec(adopt.OBJECT).load() as iterators:
    bpf.iterate(iterators.program("podrate_adopt"))

for name, path in (("missing", "/nowhere.o"), ("bad", bad)):
    try:
        bpf.ObjectSpec(path).load()
    except bpf.BpfError as error:
        log = error.log if isinstance(error, bpf.VerifierError) else ""
        done[name] = {"errno": error.errno, "line": str(error), "log": len(log.splitlines())}
print(json.dumps(done))
