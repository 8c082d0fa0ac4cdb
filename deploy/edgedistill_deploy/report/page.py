"""The report: a run's records as one HTML file that needs no other file and no network."""

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from edgedistill_deploy import wording
from edgedistill_deploy.bundle.folder import Bundle
from edgedistill_deploy.errors import MissingDependencyError
from edgedistill_deploy.files.names import printable
from edgedistill_deploy.files.writing import write_text
from edgedistill_deploy.records.reading import read_records
from edgedistill_deploy.records.studies.reading import NO_STUDIES, Studies
from edgedistill_deploy.report.assets import TEMPLATES, read_assets
from edgedistill_deploy.report.charts.svg import can_draw
from edgedistill_deploy.report.comparing import HEADER, BundleComparison
from edgedistill_deploy.report.content.pictures import without_pictures
from edgedistill_deploy.report.view import page_values
from edgedistill_deploy.version import __version__

_REPORT, _COMPARISON = "report.html.j2", "comparison.html.j2"


def write_report(
    bundle: Bundle, file: Path | None = None, *, pictures: bool = True, studies: Studies = NO_STUDIES
) -> Path:
    """Write report.html into the bundle, or to another file, and return its path.

    Only records are read, no model, and no image but the pictures of `explain`. A section without records says so. A
    record that is damaged or about another model file is left out and named. Without `pictures`, those in the records
    are left out. `studies` are comparisons and plans to show beside the bundle's own models.

    Raises:
        MissingDependencyError: jinja2 is not installed.
    """
    path = file or bundle.path / "report.html"
    write_text(path, render_report(bundle, pictures=pictures, studies=studies), inside=None if file else bundle.path)
    return path


def render_report(bundle: Bundle, *, pictures: bool = True, studies: Studies = NO_STUDIES) -> str:
    """Return the report as HTML text, with the pictures in the records or without."""
    records = read_records(bundle)
    return _render(_REPORT, page_values(bundle, records if pictures else without_pictures(records), studies))


def write_comparison(comparison: BundleComparison, file: Path) -> Path:
    """Write several bundles side by side as one HTML file, and return its path."""
    write_text(file, render_comparison(comparison))
    return file


def render_comparison(comparison: BundleComparison) -> str:
    """Return several bundles side by side as HTML text."""
    return _render(_COMPARISON, {"comparison": comparison, "header": HEADER, "version": __version__, "w": wording})


def _render(name: str, values: Mapping[str, Any]) -> str:
    """Fill a template; a value that it needs and does not get fails."""
    return str(_environment().get_template(name).render(values))


def _shown(value: Any) -> Any:
    """Return a value as the page shows it; markup (a subclass of str) stays."""
    return printable(value, keep="\n\t") if type(value) is str else value


@lru_cache(maxsize=1)
def _environment() -> Any:
    """Compile each template once in a process, because it takes longer than to fill a page."""
    try:
        import jinja2
    except ImportError as error:
        raise MissingDependencyError("jinja2", "report", "Writing a report") from error
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_shown,
    )
    environment.globals.update(assets=read_assets(), has_charts=can_draw())
    return environment
