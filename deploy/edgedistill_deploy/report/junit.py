"""Parity records as JUnit XML for build servers: a suite for each model, a case for each judged thing.

A case that does not hold is a failure. A case that needs more images is a failure of type "inconclusive". A record that
cannot be read is an error. What was not measured, or is only the baseline, is skipped. So a suite is red exactly if the
gate is not met.
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from xml.etree import ElementTree

from edgedistill_deploy.files.names import printable
from edgedistill_deploy.files.writing import write_text
from edgedistill_deploy.records.parity import ParityReport, UnreadableParity
from edgedistill_deploy.report._cases import Case, Record, by_bundle, cases_of, is_judged

_ELEMENTS = {"fail": "failure", "inconclusive": "failure", "error": "error", "skipped": "skipped"}


def write_junit(path: Path, records: Sequence[Record], now: datetime | None = None) -> None:
    """Write the records of one validation, of one bundle or several, as JUnit XML, whole or not at all."""
    write_text(path, junit_text(records, now))


def junit_text(records: Sequence[Record], now: datetime | None = None) -> str:
    """Return JUnit XML of the shape that Jenkins, GitLab, GitHub's reporters and the Ant schema all accept.

    `now` is the suites' time stamp. Records have no times, so durations are 0. Where the records are of several
    bundles, the suites are named after these too.
    """
    moment = (now or datetime.now(timezone.utc)).astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S")
    root = ElementTree.Element("testsuites")
    bundles = by_bundle(records)
    judged = [(record, is_judged(record, group)) for group in bundles for record in group]
    for number, (record, counts) in enumerate(judged):
        model = record.model
        parts = [record.bundle] if len(bundles) > 1 else []
        name = "-".join(filter(None, (*parts, model.device, model.runtime, model.precision)))
        root.append(_suite(number, name, record, counts, moment))
    ElementTree.indent(root)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{ElementTree.tostring(root, encoding="unicode")}\n'


def _suite(number: int, name: str, record: Record, judged: bool, moment: str) -> ElementTree.Element:
    cases = [case if judged else _skip_case(case) for case in cases_of(record)]
    kinds = [_ELEMENTS.get(case.status) for case in cases]
    suite = ElementTree.Element(
        "testsuite",
        {
            "name": _text(name),
            "package": "edgedistill.validate",
            "id": str(number),
            "timestamp": moment,
            "hostname": _text(record.model.device),
            "tests": str(len(cases)),
            "failures": str(kinds.count("failure")),
            "errors": str(kinds.count("error")),
            "skipped": str(kinds.count("skipped")),
            "time": "0",
        },
    )
    properties = ElementTree.SubElement(suite, "properties")
    for key, value in _properties(record).items():
        ElementTree.SubElement(properties, "property", name=key, value=_text(str(value)))
    suite.extend(_case(case, name) for case in cases)
    notes = record.findings.notes if isinstance(record, ParityReport) else ()
    ElementTree.SubElement(suite, "system-out").text = _text("\n".join([*map(_line, cases), *notes]))
    ElementTree.SubElement(suite, "system-err").text = ""
    return suite


def _properties(record: Record) -> dict[str, object]:
    names = ("runtime", "provider", "precision", "model_sha256")
    known = {"bundle": record.bundle, **{name: getattr(record.model, name) for name in names}}
    if isinstance(record, UnreadableParity):
        return known
    return {**known, "sample_count": record.images.sample_count, "verdict": record.verdict}


def _case(case: Case, suite: str) -> ElementTree.Element:
    place = _text(f"edgedistill.validate.{suite.replace('.', '_')}.{case.group}")
    element = ElementTree.Element("testcase", name=_text(case.name), classname=place, time="0")
    kind = _ELEMENTS.get(case.status)
    if kind:
        outcome = ElementTree.SubElement(element, kind, message=_text(case.message))
        if kind != "skipped":
            outcome.set("type", case.status)
            outcome.text = _text(case.message)
    return element


def _skip_case(case: Case) -> Case:
    """Return a case of the baseline, which does not count for the gate: one that does not pass is skipped."""
    message = f"The baseline is not judged ({case.status}). {case.message}"
    return case if case.status == "pass" else replace(case, status="skipped", message=message)


def _line(case: Case) -> str:
    return f"{case.group}.{case.name}: {case.status}. {case.message}"


def _text(text: str) -> str:
    """Return text that XML 1.0 can carry, on several lines if need be."""
    return printable(text, keep="\n\t")
