"""Profile the models of a bundle: read the flags, measure, and judge the records."""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgedistill_cli.bundles._steps import Steps
from edgedistill_cli.options import not_none, split_names
from edgedistill_deploy.bundle.folder import Bundle
from edgedistill_deploy.bundle.precisions import judged_precisions
from edgedistill_deploy.errors import UsageError, nearest_names
from edgedistill_deploy.statistics.verdicts import Verdict, worst_verdict
from edgedistill_deploy.wording import join_words

if TYPE_CHECKING:
    from edgedistill_cli.bundles.recording import Recorder
    from edgedistill_cli.console import Console
    from edgedistill_deploy.latency.budget import Budget
    from edgedistill_deploy.latency.measurement import LatencyConfig
    from edgedistill_deploy.latency.sustained import Arrivals
    from edgedistill_deploy.profiling.request import ProfileRequest

SWEEP = (1, 2, 4, 8, 16, 32)


def one_or_several(one: str | None, several: str | None, flag: str) -> tuple[str, ...] | None:
    """Return the names of --NAMEs A,B if it was given, else the one of --NAME, or None.

    Raises:
        UsageError: a name twice, or none.
    """
    if several is None:
        return None if one is None else (one,)
    names = tuple(split_names(several))
    if not names or len(set(names)) < len(names):
        raise UsageError(f"{flag} takes different names with commas between them, and {several!r} was given.")
    return names


def batch_sizes(text: str | None, *, sweep: bool) -> tuple[int, ...]:
    """Read N or N,N,...; the default is 1.

    Raises:
        UsageError: not whole numbers from 1 on, one twice, or both flags.
    """
    if sweep and text is not None:
        raise UsageError("--sweep chooses the batch sizes itself; leave --batch-size out, or --sweep.")
    parts = [part.strip() for part in ("1" if text is None else text).split(",")]
    sizes = SWEEP if sweep else tuple(int(part) for part in parts if part.isdecimal())
    if (not sweep and len(sizes) < len(parts)) or min(sizes, default=0) < 1 or len(set(sizes)) < len(sizes):
        raise UsageError(
            f"--batch-size takes different whole numbers from 1 on, such as 4 or 1,4,16, and {text!r} was given."
        )
    return sizes


def latency_config(duration: float | None, warmup: float | None) -> "LatencyConfig":
    """Return the times for measuring and warming up, given in s; None takes the default."""
    from edgedistill_deploy.latency.measurement import LatencyConfig

    return LatencyConfig(**not_none(duration_s=duration, warmup_s=warmup))


def arrivals_named(name: str) -> "Arrivals":
    """Return the arrivals with this name. Raises UsageError for an unknown one."""
    if name == "poisson":
        return "poisson"
    if name == "constant":
        return "constant"
    raise UsageError(f"There are no arrivals {name!r}.{nearest_names(name, ('poisson', 'constant'))}")


def providers_nobody_named() -> tuple[str, ...]:
    """Return the providers to measure beside `cpu` where the user named none: those for the same processor."""
    from edgedistill_deploy.runtimes.opening import providers_beside_cpu

    return providers_beside_cpu()


def profile_bundle(bundle: Bundle, recorder: "Recorder", request: "ProfileRequest") -> dict[str, Any]:
    """Measure, write the records, and return them; notes say what an added provider could not run."""
    from edgedistill_deploy.profiling.run import run_profile, write_profile

    with Steps(recorder.console, "profile") as steps:
        profile = run_profile(bundle.path, request, steps.tell)
    for each in profile.get("left_out", ()):
        recorder.console.say(f"note: {each['precision']} was not measured on {each['provider']}: {each['reason']}")
    recorder.keep(lambda: write_profile(bundle, profile, recorder.folder))
    recorder.keep_choices(bundle)
    return profile


def say_unjudged(bundle: Bundle, profile: Mapping[str, Any], address: Path, console: "Console") -> None:
    """Say for each other provider than `cpu` whose models nobody compared with the teacher there how to do that."""
    from edgedistill_deploy.records.model import MeasuredModel
    from edgedistill_deploy.records.reading import read_records

    judged = {each.report.model for each in read_records(bundle).parity}
    waiting: dict[str, dict[str, None]] = {}
    for record in profile["records"]:
        names = ("runtime", "provider", "precision", "model_sha256")
        model = MeasuredModel(device=record["device"]["name"], **{name: record[name] for name in names})
        if model.provider not in ("cpu", model.runtime) and not model.is_teacher and model not in judged:
            waiting.setdefault(model.provider, {})[model.precision] = None
    for provider, precisions in waiting.items():
        console.result(
            f"{join_words([*precisions])} on {provider} can be recommended only after a comparison with the teacher "
            f"there: edgedistill validate {shlex.quote(str(address))} --provider {shlex.quote(provider)}"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Gates:
    """The limits for measured records: a budget, earlier records, both or neither."""

    budget: "Budget | None" = None
    against: tuple[Mapping[str, Any], ...] = ()
    source: Path | None = None
    margin: float = 0.03
    seed: int = 0

    @classmethod
    def of(cls, budget_ms: float | None, percentile: float, against: Path | None, margin: float, seed: int) -> "Gates":
        """Read the flags and the file that they name, before anything is measured."""
        from edgedistill_deploy.latency.budget import Budget
        from edgedistill_deploy.latency.comparison import read_latencies

        return cls(
            budget=None if budget_ms is None else Budget(budget_ms=budget_ms, percentile=percentile),
            against=() if against is None else read_latencies(against),
            source=against,
            margin=margin,
            seed=seed,
        )

    def judge(self, profile: Mapping[str, Any]) -> dict[str, Any]:
        """Return the profile with "budget" and "against" in its records.

        Raises:
            UsageError: no record can be compared with an earlier one.
        """
        added = profile.get("added", ())
        records = [self._judge_record(record, added=record["provider"] in added) for record in profile["records"]]
        if self.source is not None and not any("against" in record for record in records):
            raise UsageError(
                f"{self.source} has no record of a precision and batch size that was measured now; measure the same "
                "again, with --precision and --batch-size."
            )
        return {**profile, "records": records}

    def _judge_record(self, record: Mapping[str, Any], *, added: bool) -> dict[str, Any]:
        from edgedistill_deploy.latency.budget import check_budget
        from edgedistill_deploy.latency.comparison import compare_latency

        judged = dict(record)
        if self.budget is not None:
            judged["budget"] = check_budget(record, self.budget).to_json()
        earlier = _counterpart(record, self.against, added=added)
        if earlier is not None:
            compared = compare_latency(record, earlier, margin=self.margin, seed=self.seed)
            judged["against"] = {"file": str(self.source), **compared.to_json()}
        return judged

    def verdict(self, profile: Mapping[str, Any]) -> Verdict:
        """Return whether the experts (the teacher, if it is alone) keep the budget; "pass" without a budget.

        What was measured on an added provider is not counted.
        """
        asked = asked_records(profile)
        counted = judged_precisions(record["precision"] for record in asked)
        records = [record for record in asked if record["precision"] in counted]
        return worst_verdict(record["budget"]["verdict"] for record in records if "budget" in record)


def asked_records(profile: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the records of a profile that the user asked for: all but those of added providers."""
    added = profile.get("added", ())
    return [record for record in profile["records"] if record["provider"] not in added]


def _counterpart(
    record: Mapping[str, Any], earlier: tuple[Mapping[str, Any], ...], *, added: bool
) -> Mapping[str, Any] | None:
    """Return the earlier record of the same model, runtime, provider and batch size.

    Where none is of this provider, or none of this runtime, one of another counts, or else the only record. With
    `added`, nobody asked for this provider, and only its own earlier record counts.
    """
    same = [each for each in earlier if each["batch_size"] == record["batch_size"]]
    alike = [each for each in same if each.get("precision") == record["precision"]]
    alike = [each for each in alike if each.get("runtime") == record["runtime"]] or alike
    own = [each for each in alike if each.get("provider") == record["provider"]]
    if added:
        return next(iter(own), None)
    alike = own or alike
    if alike:
        return alike[0]
    return same[0] if len(earlier) == 1 and same and record["precision"] != "teacher" else None
