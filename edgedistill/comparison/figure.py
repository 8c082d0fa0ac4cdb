"""The picture of a comparison: accuracies of every seed, and differences to the reference with their intervals."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgedistill.comparison.statistics import AHEAD, BEHIND, NEITHER
from edgedistill_deploy.files.writing import write_whole

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Okabe and Ito's colours, which colour-blind readers can tell apart; shapes say the same again.
_BLUE, _VERMILLION, _GREY, _INK = "#0072B2", "#D55E00", "#8C8C8C", "#222222"
_MARKS: dict[str, dict[str, Any]] = {
    AHEAD: {"color": _BLUE, "marker": "o", "markerfacecolor": _BLUE},
    BEHIND: {"color": _VERMILLION, "marker": "s", "markerfacecolor": _VERMILLION},
    NEITHER: {"color": _GREY, "marker": "D", "markerfacecolor": "white"},
}
_WIDTH, _ROW, _FRAME, _CAPTION = 10.0, 0.3, 0.9, 0.5  # inches
_SEEDS_BELOW = 0.27  # in rows; on the line of the mean, the mean would hide the dots

Record = dict[str, Any]


def write_figure(record: Record, path: Path) -> None:
    """Draw a comparison's record as SVG: two panels for each size, means over tasks. Equal records give equal files."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    sizes = record["train_sizes"]
    with rc_context({"svg.hashsalt": "edgedistill", "font.size": 9.0, "font.family": "DejaVu Sans"}):
        height = _CAPTION + len(sizes) * (_ROW * len(record["methods"]) + _FRAME)
        figure = Figure(figsize=(_WIDTH, height), layout="constrained")
        panels = figure.subplots(len(sizes), 2, squeeze=False, sharex="col", width_ratios=(1.0, 1.0))
        for (left, right), size in zip(panels, sizes, strict=True):
            rows = choose_rows(record, size)
            _draw_accuracies(left, rows, record)
            _draw_differences(right, rows, record)
            left.set_title(_title(record, size), loc="left", fontweight="bold")
        figure.supxlabel(_caption(record), fontsize=8, x=0.01, ha="left")
        with write_whole(path) as temporary:
            figure.savefig(temporary, format="svg", metadata={"Date": None, "Title": "Comparison"})


def choose_rows(record: Record, size: int | None) -> list[Record]:
    """Return the rows of one size; those over all tasks where there are several."""
    task = None if record["over_tasks"] else record["tasks"][0]["name"]
    return [row for row in record["rows"] if (row["task"], row["train_size"]) == (task, size)]


def _title(record: Record, size: int | None) -> str:
    images = f"{size} training images" if size is not None else "all training images"
    tasks = len(record["tasks"])
    return f"{images}, mean of {tasks} tasks" if tasks > 1 else images


def _draw_accuracies(axes: "Axes", rows: Sequence[Record], record: Record) -> None:
    for place, row in enumerate(rows):
        reference = row["method"] == record["reference"]
        color = _BLUE if reference else _INK
        seeds = seed_means(row)
        below = [place + _SEEDS_BELOW] * len(seeds)
        axes.plot([100 * each for each in seeds], below, ".", color=color, alpha=0.6, markersize=4)
        if row["mean"] is not None:
            spread = None if row["deviation"] is None else 100 * row["deviation"]
            mark: Any = {"color": color, "fmt": "D" if reference else "o", "markersize": 5, "capsize": 2.5, "zorder": 3}
            axes.errorbar(100 * row["mean"], place, xerr=spread, **mark)
        if row["stuck"]:
            _note(axes, place, f"{row['stuck']} stuck")
    if record["teacher_accuracy"] is not None:
        axes.axvline(100 * record["teacher_accuracy"], color=_INK, linewidth=0.8, linestyle="--", zorder=1)
    _name_rows(axes, [row["method"] for row in rows])
    without_labels = all(task.get("judged_by") == "teacher" for task in record["tasks"])
    axes.set_xlabel("agreement with the teacher, %" if without_labels else "test accuracy, %")


def _draw_differences(axes: "Axes", rows: Sequence[Record], record: Record) -> None:
    for place, row in enumerate(rows):
        difference = row["difference"]
        if difference is None:
            continue
        low, high = difference["interval"] or (difference["mean"], difference["mean"])
        mark = _MARKS[difference["verdict"]]
        axes.plot([100 * low, 100 * high], [place, place], color=mark["color"])
        axes.plot(100 * difference["mean"], place, linestyle="none", markersize=5.5, zorder=3, **mark)
        _note(axes, place, difference["verdict"])
    axes.axvline(0, color=_INK, linewidth=0.8, zorder=1)
    _name_rows(axes, ["" for _ in rows])
    axes.set_xlabel(f"{record['reference']} minus the method, points")
    axes.set_title(f"{record['reference']} is …", loc="right", fontsize=8.5)


def seed_means(row: Record) -> list[float]:
    """Return each seed's mean accuracy over the row's tasks, for the seeds that all these tasks have."""
    tasks = {run["task"] for run in row["runs"]}
    seeds = sorted({run["seed"] for run in row["runs"]})
    grouped = [[run["test_accuracy"] for run in row["runs"] if run["seed"] == seed] for seed in seeds]
    return [sum(values) / len(values) for values in grouped if len(values) == len(tasks)]


def _note(axes: "Axes", place: int, text: str) -> None:
    """Write beside a row, to the right of the panel, where there is no data."""
    beside: Any = {"xycoords": ("axes fraction", "data"), "xytext": (4, 0), "textcoords": "offset points"}
    axes.annotate(text, (1.0, place), va="center", fontsize=7.5, color=_INK, **beside)


def _name_rows(axes: "Axes", names: Sequence[str]) -> None:
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)


def _caption(record: Record) -> str:
    seeds, rivals = len(record["seeds"]), len(choose_rows(record, record["train_sizes"][0])) - 1
    tasks = ", each the mean over the tasks" if record["over_tasks"] else ""
    return (
        f"Left: mean ± standard deviation over {seeds} seed{'s' if seeds > 1 else ''}; dots are single seeds{tasks}; "
        f"dashed is the teacher.\nRight: mean paired difference with its {100 * record['confidence']:g} % interval; "
        f"verdicts after Holm's correction for {rivals} rival{'s' if rivals > 1 else ''}."
    )
