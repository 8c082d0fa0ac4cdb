"""The model card: README.md in Hugging Face's format, for whoever gets the expert without having made it.

It says what is known, and "not stated" where nobody said it. A card that somebody has taken over is left alone.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from edgedistill_deploy import wording as words
from edgedistill_deploy.bundle.folder import Bundle
from edgedistill_deploy.files.names import printable
from edgedistill_deploy.files.writing import write_text
from edgedistill_deploy.recommendation.summary import label_of
from edgedistill_deploy.records.parity import ParityReport
from edgedistill_deploy.records.reading import Records, read_records
from edgedistill_deploy.report._markdown_text import escape_markdown

CARD = "README.md"
TIMM_ROLE = "timm.config"  # the role of config.json in the folder that timm reads
NOT_STATED = "not stated"
_MARK = "<!-- EdgeDistill writes this card anew with each export and report; delete this line to keep your changes. -->"
_LARGEST_CARD = 4 << 20  # bytes of a present card that are read to look for the mark


def write_model_card(bundle: Bundle) -> tuple[Path, ...]:
    """Write the card into the bundle, and beside the files that timm reads; return what was written.

    A README.md without the line that marks it as EdgeDistill's own stays as it is.

    Raises:
        NotWrittenError: it cannot be written.
        BundleError: a symbolic link leads out of the bundle.
    """
    folders = [bundle.path, *([_timm_folder(bundle)] if _has_timm_folder(bundle) else [])]
    records = read_records(bundle)
    written = [folder / CARD for folder in folders if _is_ours(folder / CARD)]
    for path in written:
        write_text(path, card_text(bundle, records, for_timm=path.parent != bundle.path), inside=bundle.path)
    return tuple(written)


def card_text(bundle: Bundle, records: Records, *, for_timm: bool = False) -> str:
    """Return the card: metadata in YAML, then Markdown; `for_timm` for the folder that timm reads."""
    parts = (
        _metadata(bundle, records, for_timm),
        _introduction(bundle),
        _classes(bundle),
        _use(bundle),
        _data(bundle, records),
        _figures(records),
        _limits(bundle, records),
        _licences(bundle),
    )
    return "\n".join(line for part in parts for line in part)


def _has_timm_folder(bundle: Bundle) -> bool:
    """Say whether the folder that timm reads is here; a device has the whole manifest, but only files that it needs."""
    return bundle.has(TIMM_ROLE) and (bundle.path / str(bundle.manifest["files"][TIMM_ROLE]["path"])).is_file()


def _timm_folder(bundle: Bundle) -> Path:
    return (bundle.path / str(bundle.manifest["files"][TIMM_ROLE]["path"])).parent


def _is_ours(path: Path) -> bool:
    """Say whether a card may be written here: there is none, or EdgeDistill wrote the present one."""
    if not path.exists():
        return True
    if not path.is_file() or path.stat().st_size > _LARGEST_CARD:
        return False
    return _MARK in path.read_text(encoding="utf-8", errors="replace")


def _metadata(bundle: Bundle, records: Records, for_timm: bool) -> Iterator[str]:
    """Yield the YAML. Its scalars are written as JSON strings, which YAML reads as they are, whatever a name holds."""
    stated = [f"{whose}: {text}" for whose, text in _stated(bundle).items() if text]
    yield "---"
    yield f"license: {'other' if stated else 'unknown'}"
    if stated:
        yield f"license_name: {_scalar(', '.join(stated))}"
    yield f"library_name: {'timm' if for_timm else 'onnx'}"
    yield "pipeline_tag: image-classification"
    yield "tags:"
    yield from (f"- {tag}" for tag in ("image-classification", "distillation", "edgedistill"))
    yield from _results(bundle, records)
    yield "---"
    yield _MARK


def _results(bundle: Bundle, records: Records) -> Iterator[str]:
    """Yield the accuracies of the experts, as the hub shows them; nothing where no image has a label."""
    reports = [each for each in _reports(records) if each.accuracy.candidate is not None and not each.model.is_teacher]
    if not reports:
        return
    yield "model-index:"
    yield f"- name: {_scalar(bundle.name)}"
    yield "  results:"
    yield "  - task:"
    yield "      type: image-classification"
    yield "    dataset:"
    yield f"      name: {_scalar('evaluation images of ' + str(bundle.manifest['subtask']['name']))}"
    yield "      type: edgedistill-evaluation"
    yield "    metrics:"
    for report in reports:
        yield "    - type: accuracy"
        yield f"      name: {_scalar('accuracy of ' + str(report.model))}"
        yield f"      value: {report.accuracy.candidate:.6f}"


def _scalar(text: str) -> str:
    """Return text as a JSON string on one line. YAML reads no pairs of surrogates, so nothing is escaped needlessly."""
    return json.dumps(printable(" ".join(text.split())), ensure_ascii=False)


def _introduction(bundle: Bundle) -> Iterator[str]:
    teacher, student = bundle.manifest["teacher"], bundle.manifest["student"]
    version = bundle.manifest["provenance"].get("edgedistill", "")
    yield from ("", f"# {escape_markdown(bundle.name)}", "")
    yield (
        f"This model tells {len(bundle.class_names)} classes of images apart. It is a domain expert: EdgeDistill "
        f"{escape_markdown(str(version))} distilled it out of a larger classifier, its teacher."
    )
    yield from ("", "| | model | parameters | multiply-adds |", "|---|---|--:|--:|")
    yield _model_row("expert", student)
    yield _model_row("teacher", teacher)


def _model_row(what: str, record: Mapping[str, Any]) -> str:
    counts = (record.get(name) for name in ("parameters", "multiply_adds"))
    shown = (words.whole(each) if isinstance(each, int) else words.MISSING for each in counts)
    return f"| {what} | {escape_markdown(str(record.get('name', words.MISSING)))} | {' | '.join(shown)} |"


def _classes(bundle: Bundle) -> Iterator[str]:
    yield from ("", "## Classes", "", "| output | class | what it is made of |", "|--:|---|---|")
    for place, each in enumerate(bundle.classes):
        name, members = (each, "") if isinstance(each, str) else (each.name, ", ".join(each.members))
        yield f"| {place} | {escape_markdown(name)} | {escape_markdown(members)} |"


def _use(bundle: Bundle) -> Iterator[str]:
    height, width = bundle.preprocess.size
    yield from ("", "## Use", "", "```python", "from edgedistill_deploy import Expert", "")
    yield 'with Expert("FOLDER") as expert:'
    yield '    answer = expert.predict("photo.jpg")'
    yield from ("print(answer.class_name, answer.probability)", "```", "")
    yield (
        f"The ONNX files take uint8 images of {height} x {width} pixels, RGB, of shape (N, {height}, {width}, 3); "
        "normalisation is inside. `manifest.json` says how a picture is resized and cropped."
    )
    if _has_timm_folder(bundle):
        folder = _timm_folder(bundle).relative_to(bundle.path).as_posix()
        yield ""
        yield f'timm builds the same network: `timm.create_model("local-dir:FOLDER/{folder}", pretrained=True)`.'


def _data(bundle: Bundle, records: Records) -> Iterator[str]:
    record = bundle.manifest.get("distillation")
    trained: Mapping[str, Any] = record if isinstance(record, Mapping) else {}
    counts = trained.get("images")
    yield from ("", "## Data", "")
    if isinstance(counts, Mapping):
        shown = ", ".join(f"{_count(counts.get(split))} for {what}" for split, what in _SPLITS.items())
        yield f"Images: {shown}. {_count(trained.get('unlabelled', 0))} of the training images have no label."
    else:
        yield f"Training images: {NOT_STATED}."
    judged = {report.images.sample_count for report in _reports(records)}
    yield f"Judged on {' or '.join(map(str, sorted(judged))) or 'no'} images."


_SPLITS = {"train": "training", "validation": "validation"}


def _count(value: object) -> str:
    return words.whole(value) if isinstance(value, int) else NOT_STATED


def _figures(records: Records) -> Iterator[str]:
    reports = _reports(records)
    yield from ("", "## Figures", "")
    if not reports:
        yield "Nothing was judged yet: `edgedistill validate` compares the expert with its teacher."
        return
    yield "| model | where | verdict | accuracy | teacher | drop, points | interval | agreement |"
    yield "|---|---|---|--:|--:|--:|--:|--:|"
    yield from map(_figure_row, reports)


def _figure_row(report: ParityReport) -> str:
    model, accuracy = report.model, report.accuracy
    cells = (
        escape_markdown(label_of(model.precision)),
        escape_markdown(f"{model.device}, {model.runtime} {model.provider}"),
        "baseline" if model.is_teacher else report.verdict,
        words.percent(accuracy.candidate),
        words.percent(accuracy.teacher),
        words.MISSING if accuracy.drop is None else words.bare_points(accuracy.drop),
        words.MISSING if accuracy.drop is None else words.points_interval(accuracy.interval),
        words.percent(report.likeness.agreement),
    )
    return f"| {' | '.join(cells)} |"


def _limits(bundle: Bundle, records: Records) -> Iterator[str]:
    yield from ("", "## Limits", "")
    reject = bundle.manifest.get("reject")
    if isinstance(reject, Mapping) and reject:
        yield "- The output `in_domain` says whether an image is of one of the classes at all; it errs too."
    else:
        yield "- It knows these classes alone. A picture of anything else gets one of them as well."
    yield "- It repeats what its teacher believes, errors and biases included."
    yield "- The figures hold for images like those that it was judged on."
    for report in _reports(records):
        if report.verdict != "pass" and not report.model.is_teacher:
            model, reasons = report.model, " ".join(report.judgement.reasons)
            where = "" if model.provider in ("cpu", model.runtime) else f" with {model.provider}"
            yield f"- {escape_markdown(label_of(model.precision) + where)}: {escape_markdown(reasons)}"


def _licences(bundle: Bundle) -> Iterator[str]:
    start = bundle.manifest.get("student_start")
    weights = str(start.get("license") or "") if isinstance(start, Mapping) else ""
    yield from ("", "## Licences", "")
    for whose, text in _stated(bundle).items():
        yield f"- {whose}: {escape_markdown(text) if text else NOT_STATED}"
    if weights:
        yield f"- trained weights that the expert started from: {escape_markdown(weights)}"
    yield from ("", "Which licence the expert itself has, the teacher's and the images' licences decide.", "")


def _stated(bundle: Bundle) -> dict[str, str]:
    """Return what was said about the licences of the teacher and of the images; "" for nothing."""
    record = bundle.manifest.get("licences")
    given = record if isinstance(record, Mapping) else {}
    return {whose: str(given.get(whose) or "") for whose in ("teacher", "data")}


def _reports(records: Records) -> Sequence[ParityReport]:
    return [each.report for each in records.parity]
