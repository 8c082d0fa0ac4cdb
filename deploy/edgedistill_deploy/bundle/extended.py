"""The teacher's answers to more images than the bundle was built with, in a reference of their own.

They are kept beside the build's reference and never in it: every verdict of the build stays what it was. They are as
good as the file that gave them, so they count only as long as the teacher's file is the same.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from edgedistill_deploy.bundle.folder import Bundle
from edgedistill_deploy.bundle.precisions import model_role
from edgedistill_deploy.bundle.reference import Reference, read_reference, write_reference
from edgedistill_deploy.errors import BundleError

EXTENDED_ROLE, EXTENDED_FILE = "reference-extended", "reference-extended.npz"
_FIELD = "reference_extended"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class NewAnswers:
    """Answers (n, C) that the teacher's file gave now, without the images; `runtime` and `provider` gave them."""

    answers: Reference
    runtime: str
    provider: str


def read_extended(bundle: Bundle) -> Reference | None:
    """Return the answers that were kept; None where there are none here, or where they are of another teacher's file.

    Raises BundleError when they do not fit the bundle's classes, or their file is damaged.
    """
    if not bundle.has(EXTENDED_ROLE) or not _is_current(bundle) or not (bundle.path / EXTENDED_FILE).exists():
        return None
    kept = read_reference(bundle.file(EXTENDED_ROLE))
    names = None if kept.class_names is None else tuple(map(str, kept.class_names))
    if names != bundle.class_names:
        raise BundleError(
            f"{bundle.path / EXTENDED_FILE} holds answers about other classes than those of the bundle; delete it, and "
            "run `edgedistill validate --data ... --extend-reference` again."
        )
    return kept


def extend_reference(bundle: Bundle, new: NewAnswers) -> Bundle:
    """Keep new answers, beside those kept before of the same teacher's file; return the bundle with them.

    Raises BundleError when the bundle has no teacher's file, NotWrittenError when it cannot be written.
    """
    kept, record = read_extended(bundle), _record(bundle)
    answers = replace(new.answers, class_names=np.array(bundle.class_names))
    together = answers if kept is None else _joined(kept, answers)
    sources = [] if kept is None else list(record.get("answers", []))
    source = {"runtime": new.runtime, "provider": new.provider, "count": len(answers.labels)}
    path = bundle.path / EXTENDED_FILE
    write_reference(path, together)
    sha256 = bundle.model_sha256(model_role("teacher"))
    written = bundle.with_file(EXTENDED_ROLE, path)
    return written.with_fields(**{_FIELD: {"teacher_sha256": sha256, "answers": [*sources, source]}})


def _record(bundle: Bundle) -> Mapping[str, Any]:
    record = bundle.manifest.get(_FIELD)
    return record if isinstance(record, Mapping) else {}


def _is_current(bundle: Bundle) -> bool:
    """Say whether the kept answers are those of the teacher's file that is registered now."""
    teacher = model_role("teacher")
    return bundle.has(teacher) and _record(bundle).get("teacher_sha256") == bundle.model_sha256(teacher)


def _joined(kept: Reference, new: Reference) -> Reference:
    """Return the kept answers, then those to images that were not kept yet."""
    fresh = ~np.isin(new.digests, kept.digests)
    return replace(
        kept,
        logits=np.concatenate([kept.logits, new.logits[fresh]]),
        labels=np.concatenate([kept.labels, new.labels[fresh]]),
        digests=np.concatenate([kept.digests, new.digests[fresh]]),
    )
