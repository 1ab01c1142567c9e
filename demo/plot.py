"""throughput.png: what the pod's peer received over time, and the limits in force."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from demo.screen import rate_text
from demo.traffic import Phase, Recorded

# Told apart by readers with any colour vision: Okabe and Ito's palette.
_COLOURS = ("#E69F00", "#0072B2", "#009E73")
_INK, _FAINT = "#333333", "#999999"
_MBIT = 1e6


def draw(path: Path, recorded: Sequence[Recorded], phases: Sequence[Phase], captions: Sequence[str]) -> None:
    """Write the picture to `path`; each of `captions` stands below its phase's name.

    The vertical axis is broken: beside 20 Gbit/s no limit would be seen.
    """
    zero = phases[0].start
    figure = Figure(figsize=(10, 5), dpi=160)
    FigureCanvasAgg(figure)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(1, 2.6))
    figure.subplots_adjust(left=0.085, right=0.985, top=0.86, bottom=0.105, hspace=0.06)
    split = 1.3 * max(phase.limit for phase in phases if phase.limit is not None) / _MBIT
    fastest = max(interval.rate for each in recorded for interval in each.transfer.intervals) / _MBIT
    below.set_ylim(0, split)
    above.set_ylim(split, max(1.1 * fastest, 2 * split))
    above.set_xlim(-0.3, phases[-1].end - zero + 0.1)

    for phase, caption, colour in zip(phases, captions, _COLOURS, strict=True):
        _draw_name(above, phase, zero, caption, colour)
        for axes in (above, below):
            axes.axvspan(phase.start - zero, phase.end - zero, color=colour, alpha=0.07, linewidth=0)
        _draw_rates(below, recorded, phase, zero, colour)
        if phase.limit is None:
            _draw_rates(above, recorded, phase, zero, colour)
        else:
            _draw_limit(below, phase, zero, colour)
    for axes in (above, below):
        _plain(axes)
    _break(above, below)
    below.set_xlabel("seconds", color=_INK)
    figure.text(0.012, 0.5, "received by the peer, Mbit/s", rotation=90, va="center", color=_INK)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)


def _draw_name(axes: Axes, phase: Phase, zero: float, caption: str, colour: str) -> None:
    middle = ((phase.start + phase.end) / 2 - zero, 1.0)
    for text, height, size, family in ((phase.name, 22, 12, "sans-serif"), (caption, 8, 9, "monospace")):
        axes.annotate(
            text,
            middle,
            xycoords=("data", "axes fraction"),
            xytext=(0, height),
            textcoords="offset points",
            ha="center",
            color=colour,
            fontsize=size,
            family=family,
            weight="bold" if text == phase.name else "normal",
        )


def _draw_rates(axes: Axes, recorded: Sequence[Recorded], phase: Phase, zero: float, colour: str) -> None:
    """The intervals of 0.1 s that begin in the phase, as steps."""
    for each in recorded:
        inside = [i for i in each.transfer.intervals if phase.start <= each.begun + i.start + 0.01 < phase.end]
        if inside:
            edges = [each.begun + time - zero for time in (*(i.start for i in inside), inside[-1].end)]
            rates = [i.rate / _MBIT for i in inside]
            axes.stairs(rates, edges, color=colour, alpha=0.2, fill=True)
            axes.stairs(rates, edges, color=colour, linewidth=1.6, baseline=None)


def _draw_limit(axes: Axes, phase: Phase, zero: float, colour: str) -> None:
    if phase.limit is None or phase.ratio is None:
        return
    height = phase.limit / _MBIT
    axes.hlines(height, phase.start - zero, phase.end - zero, color=colour, linestyle="--", linewidth=1.4)
    axes.annotate(
        f"limit {rate_text(phase.limit)}, goodput {rate_text(phase.goodput)} ({phase.ratio:.3f})",
        ((phase.start + phase.end) / 2 - zero, height),
        xytext=(0, 7),
        textcoords="offset points",
        ha="center",
        color=colour,
        path_effects=[patheffects.withStroke(linewidth=4, foreground="white")],
    )


def _plain(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(_FAINT)
    axes.tick_params(colors=_INK, length=3)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.yaxis.set_major_locator(MaxNLocator(4, min_n_ticks=2))
    axes.grid(axis="y", color=_FAINT, alpha=0.25, linewidth=0.6)
    axes.set_axisbelow(True)


def _break(above: Axes, below: Axes) -> None:
    """Two slanted strokes where the vertical axis leaves out what lies between."""
    above.spines["bottom"].set_visible(False)
    above.tick_params(axis="x", length=0)
    for axes, height in ((above, 0), (below, 1)):
        stroke = [(-1, -0.6), (1, 0.6)]
        axes.plot([0], [height], marker=stroke, ms=9, ls="none", color=_FAINT, clip_on=False, transform=axes.transAxes)
