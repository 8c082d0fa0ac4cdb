"""The optional parts of a latency record, and comparisons by alternating blocks, as sentences for the page."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from edgedistill_deploy import wording as words
from edgedistill_deploy.records.layers import power_sentence
from edgedistill_deploy.records.model import as_device_name
from edgedistill_deploy.records.schema import Record
from edgedistill_deploy.records.values import as_count, as_list, as_mapping, as_share, as_text, as_time


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """A part of a comparison that has a sentence."""

    sentence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Alternative:
    """A compared model, known by the sha256 of its file."""

    model_sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparisonRecord(Record):
    """What a page shows of a comparison on one device by alternating blocks."""

    KIND = "latency-comparison"

    device: Annotated[str, as_device_name]
    alternatives: tuple[Alternative, ...]
    pairs: tuple[Told, ...]
    a_a: Told

    @property
    def sentences(self) -> tuple[str, ...]:
        """The sentence of each pair, then that of the first model against itself."""
        return tuple(each.sentence for each in (*self.pairs, self.a_a))


def extra_sentences(record: Mapping[str, Any]) -> tuple[str, ...]:
    """Describe arrivals, JPEGs, cold starts and power, as far as a latency record has them."""
    parts = {"sustained": _describe_sustained, "end_to_end": _end_to_end, "cold_start": _cold_start}
    said = [say(as_mapping(record[name])) for name, say in parts.items() if record.get(name)]
    return tuple(sentence for sentence in (*said, power_sentence(record)) if sentence)


def _describe_sustained(found: Mapping[str, Any]) -> str:
    kept = "It keeps up." if found["keeps_up"] is True else "It does not keep up."
    return (
        f"At {as_time(found['rate_per_s']):g} images a second ({as_text(found['arrivals'])} arrivals) p50 "
        f"{words.milliseconds(as_time(found['p50_ms']))} and p99 {words.milliseconds(as_time(found['p99_ms']))} from "
        f"arrival to completion, of which {words.milliseconds(as_time(found['wait_mean_ms']))} are waiting on average; "
        f"busy {words.percent(as_share(found['utilisation']))} of the time. {kept}"
    )


def _end_to_end(found: Mapping[str, Any]) -> str:
    parts = ", ".join(
        f"{as_text(part['name'])} {words.milliseconds(as_time(part['p50_ms']))}"
        for part in map(as_mapping, as_list(found["parts"]))
    )
    return (
        f"From JPEG to logits p50 {words.milliseconds(as_time(found['p50_ms']))} and p99"
        f" {words.milliseconds(as_time(found['p99_ms']))}: {parts} ({as_text(found['source'])})."
    )


def _cold_start(found: Mapping[str, Any]) -> str:
    median = {name: as_time(value) for name, value in as_mapping(found["median_ms"]).items()}
    return (
        f"Cold start {words.milliseconds(median['total'])}, the median of {as_count(found['repeats'])} processes: start"
        f" {words.milliseconds(median['start'])}, imports {words.milliseconds(median['import'])}, load"
        f" {words.milliseconds(median['load'])}, first run {words.milliseconds(median['first_run'])}."
    )
