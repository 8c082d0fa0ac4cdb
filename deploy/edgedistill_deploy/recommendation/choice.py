"""Chooses the model to deploy on each measured device. A smaller number format alone is no reason.

A precision other than fp32 is recommended only if its parity verdict on that device holds, and if it was measured there
faster than fp32 by more than measurements vary. Only records of model files that the bundle still has count. The
command, the report and the manifest use the same function; the manifest keeps the choice with its figures.
Of the providers that compute on the processor, one besides `cpu` is recommended only if it is clearly faster there too.
So is a file for one device, beside the general one.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Literal

import numpy as np

from edgedistill_deploy.bundle.folder import Bundle
from edgedistill_deploy.bundle.precisions import made_for, suits
from edgedistill_deploy.files.writing import sha256_of_file
from edgedistill_deploy.latency.comparison import LatencyComparison, compare_latency
from edgedistill_deploy.records.latency import LatencyReport
from edgedistill_deploy.records.model import MeasuredModel
from edgedistill_deploy.records.parity import ParityReport
from edgedistill_deploy.records.reading import LatencyRecord, ParityRecord, Records, read_records
from edgedistill_deploy.records.writing import HIDDEN, plain
from edgedistill_deploy.runtimes.providers import on_processor
from edgedistill_deploy.statistics.quantiles import OpenInterval
from edgedistill_deploy.wording import bare_points, points

_MOST_SAMPLES = 1000  # for the interval; more take time and hardly change it
_EMULATED = "emulated"
_RUN = ("precision", "runtime", "provider")

Ground = Literal["parity", "timing"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejected:
    """A model that is not recommended; `reason` is a part of a sentence, without the model's name."""

    model: MeasuredModel = field(metadata=HIDDEN)
    ground: Ground
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """The model to deploy on a device; `model` is None if no model holds the limit.

    `ratio` is the chosen model's median latency divided by that of fp32, with the interval of `confidence`. It is None
    for fp32 itself, and if there was no comparison. `drop` is teacher minus this model. `records` are the paths of the
    records that decided.
    """

    device: str = field(metadata=HIDDEN)
    reason: str
    timing_reason: str = field(metadata=HIDDEN)
    model: MeasuredModel | None = field(default=None, metadata=HIDDEN)
    p50_ms: float | None = None
    batch_size: int | None = None
    threads: int | None = None
    ratio: float | None = None
    ratio_interval: OpenInterval = (None, None)
    confidence: float | None = None
    drop: float | None = None
    drop_interval: OpenInterval = (None, None)
    max_drop: float | None = None
    verdict: str | None = None
    rejected: tuple[Rejected, ...] = ()
    records: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Candidate:
    """A model in one place, with its parity record and its latency record."""

    parity: ParityRecord
    latency: LatencyRecord | None

    @property
    def checked(self) -> ParityReport:
        return self.parity.report

    @property
    def timed(self) -> LatencyReport | None:
        return None if self.latency is None else self.latency.report

    @property
    def name(self) -> str:
        return self.checked.model.short_name

    @property
    def passed(self) -> bool:
        return self.checked.verdict == "pass"

    @property
    def p50_ms(self) -> float:
        """The median, infinite if it is unknown."""
        return float("inf") if self.timed is None else self.timed.times.p50_ms


def choose(records: Records) -> dict[str, Choice]:
    """Return a choice for each device on which an expert was compared with the teacher, in the order of their names."""
    models = [each.report.model for each in records.parity]
    devices = sorted({model.device for model in models if not model.is_teacher})
    return {device: _choice(device, _candidates(device, records)) for device in devices}


def record_choices(bundle: Bundle) -> Bundle:
    """Write the choices into the manifest for the devices that have records of both kinds, and return the bundle.

    Choices from records that are gone, or about other model files, are dropped. Nothing is written without a change.
    """
    choices = {device: _entry(bundle, choice) for device, choice in read_choices(bundle).items()}
    return bundle if choices == bundle.manifest.get("choices", {}) else bundle.with_fields(choices=choices)


def read_choices(bundle: Bundle) -> dict[str, Choice]:
    """Return the choices from the present records, for the devices that have records of both kinds."""
    records = read_records(bundle)
    timed = {each.report.model.device for each in records.latency}
    return {device: choice for device, choice in choose(records).items() if device in timed}


def _entry(bundle: Bundle, choice: Choice) -> dict[str, Any]:
    values = plain(choice)
    return {
        "reason": values.pop("reason"),
        **_identity_of(choice.model, (*_RUN, "model_sha256")),
        **values,
        "rejected": [{**_identity_of(each.model, _RUN), **plain(each)} for each in choice.rejected],
        "records": {
            kind: {"path": name, "sha256": sha256_of_file(bundle.path / name)} for kind, name in choice.records.items()
        },
    }


def _identity_of(model: MeasuredModel | None, names: Sequence[str]) -> dict[str, str | None]:
    return {name: getattr(model, name, None) for name in names}


def _candidates(device: str, records: Records) -> list[_Candidate]:
    found = []
    for parity in records.parity:
        model = parity.report.model
        if model.device == device and not model.is_teacher and suits(model.precision, device):
            timed = [each for each in records.latency if each.report.model == model]
            latency = min(timed, key=lambda each: each.report.setting.batch_size, default=None)
            found.append(_Candidate(parity=parity, latency=latency))
    return found


def _choice(device: str, candidates: Sequence[_Candidate]) -> Choice:
    passed = [each for each in candidates if each.passed]
    safe = _best([each for each in passed if each.checked.model.precision == "fp32"])
    if safe is None:
        return _without_fp32(device, candidates, passed)
    compared = {each: _compare_with_fp32(each, safe) for each in candidates if each is not safe}
    faster = {each: found for each, found in compared.items() if isinstance(found, LatencyComparison)}
    rejected = tuple(found for found in compared.values() if isinstance(found, Rejected))
    best = _best([*faster])
    if best is None:
        by_time = _fp32_reason(safe, [each for each in rejected if each.ground == "timing"])
        return _build_choice(device, safe, safe, None, rejected, by_time, _fp32_reason(safe, rejected))
    reason = _faster_reason(best, safe, faster[best])
    return _build_choice(device, best, safe, faster[best], rejected, reason, reason)


def _without_fp32(device: str, candidates: Sequence[_Candidate], passed: Sequence[_Candidate]) -> Choice:
    best = _best(passed)
    rejected = tuple(_reject_for_parity(each) for each in candidates if not each.passed)
    if best is None:
        reason = f"Nothing is recommended: {_describe_rejected(rejected)}."
        return Choice(device=device, reason=reason, timing_reason="", rejected=rejected)
    name = _capital(best.name)
    reason = f"{name} is recommended because fp32 was not found to hold the limit, and nothing faster does."
    return _build_choice(device, best, None, None, rejected, reason, reason)


def _build_choice(
    device: str,
    best: _Candidate,
    safe: _Candidate | None,
    comparison: LatencyComparison | None,
    rejected: tuple[Rejected, ...],
    timing_reason: str,
    reason: str,
) -> Choice:
    doubts = [doubt for each in (best, safe) if each and each.timed for doubt in each.timed.disturbance.warnings[:1]]
    doubt = f" The times are doubtful: {doubts[0]}" if doubts else ""
    checked, timed = best.checked, best.timed
    sources = {"parity": best.parity, "latency": best.latency, "fp32_latency": safe.latency if safe else None}
    return Choice(
        device=device,
        reason=reason + doubt,
        timing_reason=timing_reason + doubt,
        model=checked.model,
        p50_ms=timed.times.p50_ms if timed else None,
        batch_size=timed.setting.batch_size if timed else None,
        threads=timed.setting.threads if timed else None,
        ratio=comparison.ratio if comparison else None,
        ratio_interval=comparison.interval if comparison else (None, None),
        confidence=comparison.confidence if comparison else None,
        drop=checked.accuracy.drop,
        drop_interval=checked.accuracy.interval,
        max_drop=checked.judgement.limits.max_drop,
        verdict=checked.verdict,
        rejected=rejected,
        records={kind: each.name for kind, each in sources.items() if each is not None},
    )


def _compare_with_fp32(candidate: _Candidate, safe: _Candidate) -> LatencyComparison | Rejected:
    """Compare a model with fp32; return a rejection if it cannot be recommended instead of fp32."""
    if not candidate.passed:
        return _reject_for_parity(candidate)
    ours, theirs = candidate.timed, safe.timed
    obstacle = _obstacle(ours, theirs)
    if obstacle or ours is None or theirs is None:
        return _build_rejection(candidate, "timing", obstacle)
    comparison = _ratio(_thin_samples(ours), _thin_samples(theirs))
    if comparison.verdict == "faster":
        return comparison
    low, high = comparison.interval
    reason = (
        f"took {comparison.ratio:.2f} times as long as {safe.name} (interval {low:.2f} to {high:.2f}), which is not "
        f"faster by more than the {comparison.margin:.0%} that measurements vary by"
    )
    return _build_rejection(candidate, "timing", reason)


def _obstacle(ours: LatencyReport | None, theirs: LatencyReport | None) -> str:
    """Say why two timings cannot be compared; "" if they can."""
    if ours is None:
        return "was not timed here"
    if theirs is None:
        return "cannot be compared, because fp32 was not timed here"
    if _EMULATED in (*ours.disturbance.flags, *theirs.disturbance.flags):
        return "was timed on an emulated processor, which says nothing of the device"
    mine, other = ours.setting, theirs.setting
    if mine.batch_size != other.batch_size:
        return f"was timed with {mine.batch_size} images a run and fp32 with {other.batch_size}"
    if _same_processor(ours.model, theirs.model) and mine.threads != other.threads:
        return f"was timed on {mine.threads} threads and fp32 on {other.threads}"
    return ""


@lru_cache(maxsize=256)  # a command needs the same slow comparison several times
def _ratio(ours: bytes, theirs: bytes) -> LatencyComparison:
    """Compare the samples of two comparable records, float64 as bytes."""
    records = [{"samples_ms": np.frombuffer(each), "batch_size": 1} for each in (ours, theirs)]
    return compare_latency(*records)


def _thin_samples(report: LatencyReport) -> bytes:
    """Return every k-th sample as float64 bytes; a sample of 0 becomes the smallest number above 0."""
    samples = report.times.samples_ms
    step = -(-len(samples) // _MOST_SAMPLES)
    return np.maximum(samples[::step], np.finfo(np.float64).tiny).tobytes()


def _reject_for_parity(candidate: _Candidate) -> Rejected:
    checked = candidate.checked
    if checked.class_shortfall:
        return _build_rejection(candidate, "parity", checked.class_shortfall)
    words = "needs more images to be judged" if checked.verdict == "inconclusive" else "does not hold the limit"
    drop = "" if checked.accuracy.drop is None else f" (drop {_drop_and_limit(checked)})"
    return _build_rejection(candidate, "parity", f"{words}{drop}")


def _build_rejection(candidate: _Candidate, ground: Ground, reason: str) -> Rejected:
    return Rejected(model=candidate.checked.model, ground=ground, reason=reason)


def _drop_and_limit(checked: ParityReport) -> str:
    return f"{points(checked.accuracy.drop)}, limit {bare_points(checked.judgement.limits.max_drop)}"


def _same_processor(one: MeasuredModel, other: MeasuredModel) -> bool:
    """Return whether both ran on the processor of one device, or in the same place."""
    same = (one.device, one.runtime) == (other.device, other.runtime)
    return one.place == other.place or (same and on_processor(one.provider) and on_processor(other.provider))


def _fp32_reason(safe: _Candidate, rejected: Iterable[Rejected]) -> str:
    others = _describe_rejected(rejected) or "nothing else that was checked could take its place"
    return f"{_capital(safe.name)} is recommended: {others}."


def _faster_reason(best: _Candidate, safe: _Candidate, found: LatencyComparison) -> str:
    low, high = found.interval
    drop = best.checked.accuracy.drop
    change = "" if drop is None else f": it drops by {_drop_and_limit(best.checked)}"
    if drop is not None and drop < 0:
        change = f": it rises by {points(-drop)}"
    return (
        f"{_capital(best.name)} is recommended: it takes {found.ratio:.2f} times as long as {safe.name} "
        f"({found.confidence:.0%} interval {low:.2f} to {high:.2f}), and its parity holds{change}."
    )


def _describe_rejected(rejected: Iterable[Rejected]) -> str:
    return "; ".join(f"{each.model.short_name} {each.reason}" for each in rejected)


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _best(candidates: Sequence[_Candidate]) -> _Candidate | None:
    """Return the fastest, but a special one of a processor's only if it is clearly faster than the usual ones.

    Special are providers besides `cpu`, and the file for this device alone.
    """
    best = _fastest(candidates)
    if best is None:
        return None
    model = best.checked.model
    plain = [each for each in candidates if _same_processor(each.checked.model, model)]
    usual = _fastest(each for each in plain if _is_usual(each.checked.model))
    return best if usual is None or usual is best or _is_clearly_faster(best, usual) else usual


def _is_usual(model: MeasuredModel) -> bool:
    return model.provider == "cpu" and made_for(model.precision) is None


def _is_clearly_faster(candidate: _Candidate, usual: _Candidate) -> bool:
    ours, theirs = candidate.timed, usual.timed
    if ours is None or theirs is None:
        return ours is not None
    return not _obstacle(ours, theirs) and _ratio(_thin_samples(ours), _thin_samples(theirs)).verdict == "faster"


def _fastest(candidates: Iterable[_Candidate]) -> _Candidate | None:
    return min(candidates, key=lambda each: each.p50_ms, default=None)
