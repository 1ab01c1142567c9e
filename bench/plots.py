"""The pictures of docs/benchmarks.md."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from bench.point import Point
from bench.tables import DROPPED, GOODPUT, JAIN, OUTSIDE, RESENT, RR50, RR99, WORST, Group, Row, label, point_of

# Told apart by readers with any colour vision: Okabe and Ito's palette.
COLOURS = {"podrate": "#0072B2", "tbf": "#E69F00", "htb": "#009E73", "none": "#999999"}
_MARKERS = {"podrate": "o", "tbf": "D", "htb": "s", "none": "x"}
_INK, _FAINT = "#333333", "#cccccc"


class _Panel(NamedTuple):
    """One quantity: where its value is taken from, its title, a line to be measured against, and its scale."""

    value: Callable[[Row], float]
    title: str
    target: float | None = None
    scale: str = "linear"


def _added(field: str) -> Callable[[Row], float]:
    # Not below 10 us: on a logarithmic scale, noise would look like news.
    return lambda row: max(row[field] - row["rtt"] * 1e3, 0.01)


def _field(field: str) -> Callable[[Row], float]:
    return lambda row: float(row[field])


_GOODPUT = _Panel(_field(GOODPUT.field), "goodput / limit", 0.957)
_WORST = _Panel(_field(WORST.field), "worst 0.1 s / limit", 1.25)
_RESENT = _Panel(_field(RESENT.field), "segments sent again", None, "symlog")
_JAIN = _Panel(_field(JAIN.field), "Jain's fairness", 0.95)
_P50 = _Panel(_added(RR50.field), "RR p50 in the pod,\nms beyond the RTT", None, "log")
_P99 = _Panel(_added(RR99.field), "RR p99 in the pod,\nms beyond the RTT", None, "log")
_OUTSIDE = _Panel(_added(OUTSIDE.field), "RR p99 outside it,\nms beyond the RTT", None, "log")
_DROPPED = _Panel(_field(DROPPED.field), "packets dropped", None, "symlog")
_DELIVERED = _Panel(_field(GOODPUT.field), "delivered / limit", 0.971)


def draw(results: Mapping[str, Any], groups: Sequence[Group], directory: Path) -> dict[str, str]:
    """Write every picture that the results suffice for; what each shows, by file name."""
    directory.mkdir(parents=True, exist_ok=True)
    drawn: dict[str, str] = {}

    def save(name: str, shows: str, figure: Figure) -> None:
        FigureCanvasAgg(figure)
        figure.savefig(directory / name, dpi=110, bbox_inches="tight")
        drawn[name] = shows

    for group in groups:
        if group.name == "udp":
            save("udp.png", "UDP at twice the limit", _dots(group, (_DELIVERED, _WORST, _P99, _DROPPED)))
            continue
        rates = f"{group.title}: goodput, worst 0.1 s, retransmits, fairness"
        save(f"{group.name}-rates.png", rates, _dots(group, (_GOODPUT, _WORST, _RESENT, _JAIN)))
        latency = f"{group.title}: latency in and outside the pod, drops"
        save(f"{group.name}-latency.png", latency, _dots(group, (_P50, _P99, _OUTSIDE, _DROPPED)))
    if "closeup" in results:
        point = Point(**results["closeup"]["point"])
        save("over-time.png", "throughput over time", _over_time(point, results["closeup"]["shapers"]))
        save("latency.png", "distribution of latency in the pod", _latency(point, results["closeup"]["shapers"]))
    if "cost" in results:
        save("cost.png", "what a packet costs", _cost(results["cost"]["packets"]))
    return drawn


def _dots(group: Group, panels: Sequence[_Panel]) -> Figure:
    """A line a point, a column a quantity: podrate and tbf as two dots, joined."""
    lines = len(group.points)
    height = 1.3 + 0.26 * lines  # inches, of which the titles and the legend need 0.9
    figure = Figure(figsize=(11, height))
    columns = list(figure.subplots(1, len(panels), sharey=True, squeeze=False)[0])
    figure.subplots_adjust(wspace=0.13, top=1 - 0.9 / height, bottom=0.4 / height)
    for axes, panel in zip(columns, panels, strict=True):
        axes.set_title(panel.title, fontsize=10, color=_INK)
        axes.set_xscale(panel.scale, **({"linthresh": 1} if panel.scale == "symlog" else {}))
        if panel.target is not None:
            axes.axvline(panel.target, color=_INK, linewidth=0.8, linestyle=":")
        for y, point in enumerate(group.points):
            shown = {s: panel.value(row) for s, row in point.items() if s in ("tbf", "podrate")}
            axes.plot(list(shown.values()), [y] * len(shown), color=_FAINT, linewidth=1.5, zorder=1)
            for shaper, value in shown.items():
                axes.scatter(
                    value, y, s=22, c=COLOURS[shaper], marker=_MARKERS[shaper], zorder=3 if shaper == "podrate" else 2
                )
        if panel.scale == "symlog":
            axes.set_xlim(left=-0.5)
        _plain(axes)
        axes.grid(axis="y", color="#eeeeee", linewidth=0.6)
    columns[0].set_yticks(range(lines), [_line(group, point) for point in group.points], family="monospace", fontsize=8)
    columns[0].set_ylim(lines - 0.4, -0.6)
    for shaper in ("podrate", "tbf"):
        columns[0].scatter([], [], s=22, c=COLOURS[shaper], marker=_MARKERS[shaper], label=shaper)
    figure.legend(loc="upper center", ncols=2, frameon=False)
    return figure


def _line(group: Group, point: Mapping[str, Row]) -> str:
    rate, flows, rtt, what = label(point_of(next(iter(point.values()))), group.name)
    return f"{what} {rate:>4} x{flows:<2} {rtt:>5}"


def _over_time(point: Point, shapers: Mapping[str, Any]) -> Figure:
    figure = Figure(figsize=(10, 3.6))
    axes = figure.subplots()
    for shaper in ("tbf", "podrate"):
        if shaper in shapers:
            rates = [rate / 1e6 for rate in shapers[shaper]["rates"]]
            edges = [i / 10 for i in range(len(rates) + 1)]
            axes.stairs(rates, edges, baseline=None, color=COLOURS[shaper], linewidth=1.6, label=shaper)
    axes.axhline(point.rate / 1e6, color=_INK, linewidth=0.8, linestyle=":")
    end = point.seconds, point.rate / 1e6
    axes.annotate("limit", end, xytext=(4, 0), textcoords="offset points", va="center", color=_INK, fontsize=9)
    axes.set_ylim(bottom=0)
    axes.set_xlim(0, point.seconds)
    axes.set_xlabel("seconds")
    axes.set_ylabel("Mbit/s on the wire, each 0.1 s")
    axes.set_title(f"{point.name}: what the peer received", fontsize=11, color=_INK)
    axes.legend(loc="lower right", frameon=False)
    _plain(axes)
    return figure


def _latency(point: Point, shapers: Mapping[str, Any]) -> Figure:
    figure = Figure(figsize=(10, 3.6))
    axes = figure.subplots()
    for shaper, colour in COLOURS.items():
        if shaper in shapers:
            times = sorted(shapers[shaper]["times_ms"])
            share = [(i + 1) / len(times) for i in range(len(times))]
            axes.step(times, share, where="post", color=colour, linewidth=1.8, label=shaper)
    axes.set_xscale("log")
    axes.set_ylim(0, 1.01)
    axes.set_xlabel("ms from request to answer, in the pod, beside the traffic")
    axes.set_ylabel("share of the answers")
    axes.set_title(f"{point.name}: request-response latency", fontsize=11, color=_INK)
    axes.legend(loc="center left", bbox_to_anchor=(0.45, 0.5), frameon=False)
    _plain(axes)
    return figure


def _cost(packets: Sequence[Mapping[str, Any]]) -> Figure:
    """Bars: the empty program, and on top of it what ours adds."""
    figure = Figure(figsize=(8, 3.2))
    axes = figure.subplots()
    names: list[str] = []
    for each in packets:
        cpus = f"{each['cpus']} CPU{'s at once' if each['cpus'] > 1 else ''}"
        for program in ("egress", "ingress"):
            y, added = len(names), each[program] - each["empty"]
            names.append(f"{program}, {cpus}")
            axes.barh(y, each["empty"], color=_FAINT, label=None if y else "empty program")
            axes.barh(y, added, left=each["empty"], color=COLOURS["podrate"], label=None if y else "podrate adds")
            axes.annotate(f"+{added:.0f}", (each[program], y), xytext=(4, 0), textcoords="offset points", va="center")
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.set_xlim(right=1.1 * max(max(each["egress"], each["ingress"]) for each in packets))
    axes.set_xlabel("ns a packet")
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=2, frameon=False)
    _plain(axes)
    return figure


def _plain(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8, length=3)
    axes.grid(axis="x", color="#eeeeee", linewidth=0.6)
    axes.set_axisbelow(True)
    if axes.get_xscale() != "linear":
        axes.xaxis.set_major_formatter(
            FuncFormatter(lambda value, _: f"{value:g}" if value < 1000 else f"{value / 1000:g}k")
        )
