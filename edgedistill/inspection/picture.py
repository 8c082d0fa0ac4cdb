"""An inspection as files: the record, and a picture of it."""

import importlib.util
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgedistill.inspection.records import Inspection, LayerInspection
from edgedistill_deploy.errors import MissingDependencyError
from edgedistill_deploy.files.writing import write_json, write_whole

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

RECORD = "inspection.json"
PICTURE = "inspection.svg"
# Okabe and Ito's colours, which colour-blind readers can tell apart; marker and dash say the same again.
_STYLES = (
    {"color": "#0072B2", "marker": "o", "linestyle": "-"},
    {"color": "#D55E00", "marker": "s", "linestyle": "--"},
    {"color": "#009E73", "marker": "^", "linestyle": "-."},
    {"color": "#CC79A7", "marker": "D", "linestyle": ":"},
    {"color": "#E69F00", "marker": "v", "linestyle": "-"},
    {"color": "#56B4E9", "marker": "P", "linestyle": "--"},
)
_INK = "#444444"
_ROW_INCHES = 2.8
_SETTINGS: Any = {  # matplotlib's types list the keys, which differ between its releases
    "font.size": 9,
    "axes.titlesize": 9.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": _INK,
    "svg.hashsalt": "edgedistill",  # the same inspection makes the same file
}
# A smaller share of the sum is a rounding error of 0.
_SMALLEST_SHARE = 1e-9


def check_drawing() -> None:
    """Fail before the work when its picture cannot be drawn.

    Raises:
        MissingDependencyError: matplotlib is not installed.
    """
    if importlib.util.find_spec("matplotlib") is None:
        raise MissingDependencyError("matplotlib", "compare", "The picture of an inspection")


def write_inspection(inspection: Inspection, folder: Path, inside: Path | None = None) -> tuple[Path, Path]:
    """Write `inspection.json` and `inspection.svg`, each whole or not at all; returns both paths.

    `inside` is the run folder that `folder` is a part of, as for `write_whole`.

    Raises:
        MissingDependencyError: matplotlib is not installed; nothing is written.
    """
    check_drawing()
    record, picture = folder / RECORD, folder / PICTURE
    write_json(record, inspection.to_json(), inside=inside)
    with write_whole(picture, inside=inside) as temporary:
        draw_inspection(inspection, temporary)
    return record, picture


def draw_inspection(inspection: Inspection, path: Path) -> None:
    """Draw a row for each layer, its spectra beside its accuracies at K; the file's ending chooses the format."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    rows = len(inspection.layers)
    with rc_context(_SETTINGS):
        figure = Figure(figsize=(9.5, _ROW_INCHES * rows + 1.0), layout=ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.08))
        panels = figure.subplots(rows, 2, squeeze=False)
        for layer, (left, right) in zip(inspection.layers, panels, strict=True):
            _draw_spectra(left, layer)
            _draw_accuracies(right, layer, inspection)
        panels[-1][0].set_xlabel("direction")
        panels[-1][1].set_xlabel("directions kept, K")
        _draw_heading(figure, inspection, panels[0][1])
        metadata: dict[str, Any] = {"Date": None} if path.suffix == ".svg" else {}
        figure.savefig(path, metadata=metadata, dpi=150)


def _draw_heading(figure: "Figure", inspection: Inspection, panel: "Axes") -> None:
    handles, labels = panel.get_legend_handles_labels()
    figure.suptitle(
        f"{inspection.teacher} on {len(inspection.class_names)} classes: accuracy on {inspection.validation_count:,}"
        " validation images with one layer projected",
        fontsize=10.5,
    )
    figure.legend(handles, labels, loc="outside lower center", ncols=min(6, len(labels)), frameon=False)


def _draw_spectra(panel: "Axes", layer: LayerInspection) -> None:
    for style, (method, values) in zip(_styles_of(layer, layer.eigenvalues), layer.eigenvalues.items(), strict=True):
        total = sum(max(0.0, value) for value in values)
        shares = [value / total if value > _SMALLEST_SHARE * total else math.nan for value in values]
        panel.plot(range(1, len(shares) + 1), shares, label=method, linewidth=1.4, **(style | {"marker": ""}))
    panel.set_yscale("log")
    panel.set_ylabel("share of the whole")
    rank = layer.effective_rank
    panel.set_title(
        f"{layer.layer}: {layer.width} channels, {layer.map_size[0]}×{layer.map_size[1]}\n"
        f"effective rank {rank.entropy:.1f}; 99 % of the variance in {rank.directions_99}",
        loc="left",
    )
    panel.grid(visible=True, alpha=0.25)


def _draw_accuracies(panel: "Axes", layer: LayerInspection, inspection: Inspection) -> None:
    for style, (method, points) in zip(
        _styles_of(layer, layer.accuracy_at_k), layer.accuracy_at_k.items(), strict=True
    ):
        ks = [point.k for point in points]
        panel.plot(ks, [100 * point.accuracy for point in points], label=method, linewidth=1.4, markersize=4, **style)
        low, high = ([100 * point.interval[side] for point in points] for side in (0, 1))
        panel.fill_between(ks, low, high, color=style["color"], alpha=0.12, linewidth=0)
    line: Any = {"color": "black", "linewidth": 1}
    panel.axhline(100 * inspection.teacher_accuracy, label="teacher", **line)
    target = f"target, {100 * inspection.target:g} % of it"
    panel.axhline(100 * inspection.target * inspection.teacher_accuracy, label=target, linestyle=(0, (2, 2)), **line)
    _draw_suggestion(panel, layer, inspection.suggestion.method)
    panel.set_xscale("log", base=2)
    ticks = [2**power for power in range(layer.width.bit_length())]
    panel.set_xticks(ticks, [str(tick) for tick in ticks])
    panel.minorticks_off()
    panel.set_xlim(0.9, layer.width * 1.12)
    panel.set_ylim(0, 103)
    panel.set_ylabel("accuracy, %")
    panel.grid(visible=True, alpha=0.25)


def _draw_suggestion(panel: "Axes", layer: LayerInspection, method: str) -> None:
    width = layer.suggested_width[method]
    if width is None:
        panel.set_title("no width meets the target", loc="left")
        return
    panel.axvline(width, color=_INK, linewidth=0.8, alpha=0.7)
    panel.set_title(f"{method} meets the target from width {width} on", loc="left")


def _styles_of(layer: LayerInspection, methods: Any) -> list[dict[str, Any]]:
    """Give a method the same style in both panels."""
    order = list(layer.accuracy_at_k)
    return [dict(_STYLES[order.index(method) % len(_STYLES)]) for method in methods]
