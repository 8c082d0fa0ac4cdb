"""The report: a run's records as one HTML file that needs no other file and no network."""

from functools import lru_cache
from pathlib import Path
from typing import Any

from edgedistill_deploy.bundle.folder import Bundle
from edgedistill_deploy.errors import MissingDependencyError
from edgedistill_deploy.files.names import printable
from edgedistill_deploy.files.writing import write_text
from edgedistill_deploy.records.reading import read_records
from edgedistill_deploy.report.assets import TEMPLATES, read_assets
from edgedistill_deploy.report.charts import can_draw
from edgedistill_deploy.report.view import page_values


def write_report(bundle: Bundle, file: Path | None = None) -> Path:
    """Write report.html into the bundle, or to another file, and return its path.

    Only records are read, no model and no image. A section without records says so. A record that is damaged or about
    another model file is left out and named.

    Raises:
        MissingDependencyError: jinja2 is not installed.
    """
    path = file or bundle.path / "report.html"
    write_text(path, render_report(bundle), inside=None if file else bundle.path)
    return path


def render_report(bundle: Bundle) -> str:
    """Return the report as HTML text."""
    return str(_template().render(page_values(bundle, read_records(bundle))))


def _shown(value: Any) -> Any:
    """Return a value as the page shows it; markup (a subclass of str) stays."""
    return printable(value, keep="\n\t") if type(value) is str else value


@lru_cache(maxsize=1)
def _template() -> Any:
    """Compile the template once in a process, because it takes longer than to fill a page."""
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
    return environment.get_template("report.html.j2")
