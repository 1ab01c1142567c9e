"""The bench's arithmetic, its plan, and the document that it makes of a sweep."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from bench import report, sweep, tables
from bench.command import LabError
from bench.iperf import Interval, Transfer
from bench.point import Measured, Point, as_json, jain, percentile, since_begun, worst_interval, worst_window


def test_jain() -> None:
    assert jain([3.0, 3.0, 3.0]) == pytest.approx(1)
    assert jain([5.0, 0.0, 0.0, 0.0]) == pytest.approx(1 / 4)
    assert jain([1.0, 2.0]) == pytest.approx(9 / 10)
    assert jain([0.0, 0.0]) == 0


def test_percentile_is_the_nearest_rank() -> None:
    values = [15.0, 20.0, 50.0, 35.0, 40.0]
    assert [percentile(values, p) for p in (0, 5, 30, 40, 50, 99, 100)] == [15, 15, 20, 20, 35, 50, 50]
    assert percentile([7.0], 99) == 7
    assert percentile([float(i) for i in range(1, 1001)], 99) == 990


def test_the_worst_window_slides() -> None:
    # 1000 bytes in each 10 ms is 0.8 Mbit/s; the burst of ten steps begins off every grid of 0.1 s.
    steady = [1000] * 100
    assert worst_window(steady) == pytest.approx(0.8e6)
    assert worst_window([*steady[:47], *[2000] * 10, *steady[57:]]) == pytest.approx(1.6e6)
    assert worst_window([*steady[:95], *[2000] * 5]) == pytest.approx(1.2e6)  # at the very end


def test_the_worst_window_leaves_out_the_start() -> None:
    assert worst_window([*[9000] * 20, *[1000] * 30]) == pytest.approx(0.8e6)
    assert worst_window([*[1000] * 20, 9000, *[1000] * 30]) == pytest.approx(0.8e6 + 8000 * 8 / 0.1)
    assert worst_window([9000] * 5) == 0


def test_traffic_begins_with_the_first_real_packets() -> None:
    assert since_begun([0, 66, 130, 0, 5000, 0, 7]) == [5000, 0, 7]
    assert since_begun([0, 66]) == []


def test_the_worst_interval_joins_a_late_one_with_the_short_one_after_it() -> None:
    def transfer(*intervals: tuple[float, float, float]) -> Transfer:
        return Transfer(tuple(Interval(*each) for each in intervals), (1.0,), 0, 0, 0)

    start = (0.0, 0.1, 9e6), (0.1, 0.2, 9e6)
    assert worst_interval(transfer(*start, (0.2, 0.3, 1e6), (0.3, 0.4, 2e6))) == pytest.approx(20e6)
    assert worst_interval(transfer(*start, (0.2, 0.35, 1.5e6), (0.35, 0.4, 1e6), (0.4, 0.5, 1e6))) < 15e6
    assert worst_interval(transfer(*start)) == 0


def test_the_plan_covers_what_it_should() -> None:
    planned = list(sweep.plan(3))
    points = [each.point for each in planned]
    assert len({point.name for point in points}) == len(points)
    assert {point.rate for point in points} == {10**6, 10**7, 10**8, 10**9}
    assert {point.rtt for point in points} == {0, 0.002, 0.02, 0.06}
    assert {point.flows for point in points} >= {1, 4, 16, 64}
    assert {point.congestion for point in points} == {"cubic", "bbr"}
    assert {(point.direction, point.protocol) for point in points} == {
        (direction, protocol) for direction in ("egress", "ingress") for protocol in ("tcp", "udp")
    }
    assert all(each.shapers[:2] == sweep.PAIR for each in planned)


def test_a_sweep_takes_as_long_as_it_says() -> None:
    assert 13 * 60 < sum(stage.seconds for stage in sweep.stages(quick=False, seconds=3, runs=3)) < 17 * 60
    assert 90 < sum(stage.seconds for stage in sweep.stages(quick=True, seconds=2, runs=1)) < 150
    assert [stage.name for stage in sweep.stages(False, 3, 3, "bbr 10M")] == [
        "egress bbr 10M x4 0ms",
        "egress bbr 10M x16 60ms",
    ]


def test_a_stage_that_fails_is_written_down_and_the_next_one_runs(tmp_path: Path) -> None:
    def fail(_: sweep.Results) -> None:
        raise LabError("iperf3: no route")

    results = sweep.Results(tmp_path / "build" / "results.json", {})
    done: list[str] = []
    work = [
        sweep.Stage("one", 1, fail),
        sweep.Stage("two", 1, lambda results: results.data["points"].append("measured")),
    ]
    sweep.sweep(work, results, lambda stage: done.append(stage.name))
    assert done == ["one", "two"]
    saved = json.loads(results.path.read_text())
    assert saved["failed"] == ["one: iperf3: no route"]
    assert saved["points"] == ["measured"]
    assert [path.name for path in results.path.parent.iterdir()] == ["results.json"]


def measured(**changed: float) -> Measured:
    return Measured(**{**asdict(Measured(0.95, 1.02, 0, 1.0, 0.1, 0.2, 0.2, 0)), **changed})


def results(*points: tuple[Point, dict[str, Measured]]) -> dict[str, Any]:
    """A sweep's results, as they come back from their file."""
    packets = [{"cpus": 1, "empty": 30, "egress": 80, "ingress": 85}]
    closeup = {"point": asdict(sweep.CLOSEUP), "shapers": {"podrate": {"rates": [1e8] * 50, "times_ms": [0.1, 0.3]}}}
    beside = [{"rate": "10M", "shaper": "tbf", "tcp_ratio": 0.5, "udp_ratio": 0.4, "sent": 9, "refused": 0}]
    data = {
        "machine": sweep.machine(seconds=3, runs=3, quick=False),
        "points": [row for point, each in points for row in as_json(point, each)],
        "failed": ["egress cubic 1M x1 0ms: iperf3: no route"],
        "closeup": closeup,
        "cost": {"packets": packets, "passed": 0.99991},
        "beside": beside,
    }
    return dict(json.loads(json.dumps(data)))


def test_the_document() -> None:
    fast = Point(rate=100_000_000, flows=16, rtt=0.02)
    udp = Point(rate=10_000_000, protocol="udp", direction="ingress")
    pair = {"podrate": measured(), "tbf": measured(rr_p99_ms=44.4, retransmits=3)}
    text = report.text(results((fast, pair), (udp, pair)), {"egress-rates.png": "rates", "cost.png": "costs"})
    assert "| 100M | 16 | 20 ms | cubic | 0.950 / 0.950 | 1.02 / 1.02 | 0 / 3 | 1.000 / 1.000 |" in text
    assert "| 10M | 1 | 0 ms | ingress | 0.950 / 0.950 |" in text
    assert "| 1 | 30 | 80 | 85 | 50 | 55 |" in text
    assert "0.9999 of its limit" in text
    assert "![rates](benchmarks/egress-rates.png)" in text
    assert "- egress cubic 1M x1 0ms: iperf3: no route" in text
    assert "Nowhere among these 2 points" in text
    for column in tables.COLUMNS:
        assert text.count(f"- **{column.heading}**: ") == 1


@pytest.mark.parametrize(
    ("ours", "remark"),
    [
        ({"goodput_ratio": 0.93}, "goodput under 99 % of tbf's, at 1: egress bbr 10M x4 0ms (0.930 / 0.950)"),
        ({"worst_window_ratio": 1.6}, "above tbf's, at 1: egress bbr 10M x4 0ms (1.60 / 1.02)"),
        ({"retransmits": 7}, "more segments sent again, at 1: egress bbr 10M x4 0ms (7 / 0)"),
        ({"jain": 0.7}, "Jain under .95 and under tbf's, at 1: egress bbr 10M x4 0ms (0.700 / 1.000)"),
        ({"rr_p99_ms": 3.0}, "RR p99 in the pod above tbf's, at 1: egress bbr 10M x4 0ms (3.00 / 0.20)"),
    ],
)
def test_the_document_tells_where_podrate_is_worse(ours: dict[str, float], remark: str) -> None:
    point = Point(rate=10_000_000, flows=4, congestion="bbr")
    text = report.text(results((point, {"podrate": measured(**ours), "tbf": measured()})), {})
    assert remark in text
    assert "Nowhere" not in text


def test_a_document_of_half_a_sweep() -> None:
    text = report.text({"machine": sweep.machine(seconds=1, runs=1), "points": [], "failed": []}, {})
    assert text.startswith("# Benchmarks\n")
    assert "##" not in text


def test_every_picture_is_drawn_and_shown(tmp_path: Path) -> None:
    pair = {"podrate": measured(retransmits=5), "tbf": measured(rr_p99_ms=44.4)}
    points = [
        (Point(rate=10_000_000, direction=direction, protocol=protocol), pair)
        for direction in ("egress", "ingress")
        for protocol in ("tcp", "udp")
    ]
    path = tmp_path / "results.json"
    path.write_text(json.dumps(results(*points)))
    document = report.write(path, tmp_path / "docs").read_text()
    pictures = [each.name for each in (tmp_path / "docs" / "benchmarks").iterdir()]
    assert len(pictures) == 8
    for name in pictures:
        assert f"](benchmarks/{name})" in document


def test_no_results_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(LabError, match="no such file") as caught:
        report.write(tmp_path / "none.json", tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["[]", "{}", "7", '{"points": 1}', '{"points": [{"shaper": "tbf"}], "failed": []}'])
def test_what_is_no_sweep_is_one_line(tmp_path: Path, text: str) -> None:
    path = tmp_path / "other.json"
    path.write_text(text)
    with pytest.raises(LabError, match="not a sweep") as caught:
        report.write(path, tmp_path / "docs")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "docs" / "benchmarks.md").exists()


def test_the_heading_names_the_shapers_of_its_cells() -> None:
    four = dict.fromkeys(sweep.EVERY, measured())
    lines = report.text(results((Point(rate=10_000_000), four)), {}).splitlines()
    heading = next(line for line in lines if line.startswith("Beside htb"))
    assert "(podrate / tbf / htb / none)" in heading
    assert "| 0.950 / 0.950 / 0.950 / 0.950 |" in "\n".join(lines)
