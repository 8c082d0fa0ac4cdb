"""Ask an expert about the pictures that a user names, and hand each answer on as soon as it is there."""

import csv
import io
import sys
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgedistill_cli.bundles._steps import Steps
from edgedistill_cli.console import Console
from edgedistill_cli.exit_codes import InterruptedRunError
from edgedistill_cli.tables.predictions import describe_counts, show_prediction, show_predictions
from edgedistill_deploy import wording as words
from edgedistill_deploy.bundle.folder import open_bundle
from edgedistill_deploy.errors import DataError, NotWrittenError, UsageError
from edgedistill_deploy.files.names import printable
from edgedistill_deploy.files.writing import write_text
from edgedistill_deploy.images.skipped import describe_skipped
from edgedistill_deploy.prediction.answers import KIND, SCHEMA, SET_KIND, NotAnswered, Prediction
from edgedistill_deploy.prediction.camera import open_frames
from edgedistill_deploy.prediction.expert import Expert
from edgedistill_deploy.prediction.finding import find_images
from edgedistill_deploy.prediction.heat import WhyFolder
from edgedistill_deploy.prediction.occlusion import describe_region
from edgedistill_deploy.prediction.pictures import Picture, picture_of
from edgedistill_deploy.prediction.sorting import Aside, Sorter
from edgedistill_deploy.progress import Progress, silent

STDIN = "-"
MOST_STDIN_BYTES = 1 << 28
_FAULTS_SHOWN = 5
_COLUMNS = ("image", "class", "probability", "sure", "in_domain", "milliseconds", "prepare_ms", "inference_ms", "error")


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What the user asked for. Raises UsageError for what does not go together."""

    images: tuple[str, ...]
    camera: str | None
    top: int
    threshold: float
    batch_size: int | None
    csv: Path | None
    save: Path | None
    links: bool
    why: Path | None = None
    lines: bool
    as_json: bool

    def __post_init__(self) -> None:
        clashes = {
            "Name images, a folder, a pattern, - for standard input, or --camera N.": not self.images
            and self.camera is None,
            "--camera takes its pictures from the camera; leave the images out.": self.images
            and self.camera is not None,
            "--json prints one document at the end, and a camera has none; give --jsonl.": self.as_json
            and self.camera is not None,
            "--json and --jsonl both want the standard output; give one of them.": self.as_json and self.lines,
            "--save sorts image files, and a camera has none; leave it out.": self.save is not None
            and self.camera is not None,
            "--save sorts image files, and standard input is none; leave it out.": self.save is not None
            and STDIN in self.images,
            "--why shows a picture to the expert again and again, and a camera does not wait; leave it out.": (
                self.why is not None and self.camera is not None
            ),
            "- can be given once: standard input holds one image.": self.images.count(STDIN) > 1,
            "--links belongs to --save DIR; give both.": self.links and self.save is None,
        }
        for sentence, clash in clashes.items():
            if clash:
                raise UsageError(sentence)


def predict_pictures(bundle: Path, asked: Asked, opening: Mapping[str, Any], console: Console) -> None:
    """Answer all pictures and show the answers; `opening` are the arguments of `Expert`.

    Raises:
        DataError: a picture that was named cannot be read, or none can; the others were answered.
        InterruptedRunError: the user pressed Ctrl-C before the last picture.
    """
    opened = open_bundle(bundle, verify=False)  # before the search, so that exchanged arguments are named
    pictures, named = _find(asked, console) if asked.camera is None else ([], frozenset[str]())
    with Steps(console, "open") as steps:
        expert = Expert(opened, progress=steps.tell, **opening)
    with expert:
        (console.warn if expert.model.doubtful else console.detail)(f"note: {expert.model.reason}")
        alone = pictures[0].name if len(pictures) == 1 and pictures[0].name in named else None
        output = _Output(expert, asked, console, alone)
        if asked.why is not None:
            _tell_looks(expert, len(pictures), asked, console)
        if asked.camera is not None:
            _watch(expert, asked, output)
            return
        _ask(expert, pictures, asked, output)
        output.finish()
        output.require_answers(named)


def _find(asked: Asked, console: Console) -> tuple[list[Picture], frozenset[str]]:
    """Return the pictures in the order of the words, and the names of those that must be readable."""
    named_images = [word for word in asked.images if word != STDIN]
    found = find_images(named_images, besides=[each for each in (asked.save, asked.why) if each is not None])
    if found.skipped:
        console.say(f"note: Passed over in the folders: {describe_skipped(found.skipped)}.")
    pictures = [picture_of(path) for path in found.paths]
    named = {printable(str(path)) for path in found.named}
    if STDIN in asked.images:
        pictures.append(Picture(name=STDIN, source=_read_stdin(), called="Standard input"))
        named.add(STDIN)
    if not pictures:
        ours = " and ".join(str(each) for each in (asked.save, asked.why) if each is not None)
        raise DataError(f"All images found lie in {ours}, where this command writes; choose another folder.")
    return pictures, frozenset(named)


def _read_stdin() -> bytes:
    if sys.stdin is None or sys.stdin.isatty():
        raise UsageError("- reads the bytes of an image from standard input; send some: ... - < photo.jpg")
    content = sys.stdin.buffer.read(MOST_STDIN_BYTES + 1)
    if len(content) > MOST_STDIN_BYTES:
        raise DataError(f"Standard input has more than {MOST_STDIN_BYTES} bytes, which no image needs; send one image.")
    return content


def _tell_looks(expert: Expert, count: int, asked: Asked, console: Console) -> None:
    """Say how often the model is asked, before it is."""
    looks = expert.looks_to_explain
    console.say(
        f"why: {words.counted(count, 'image')}, each shown to the expert {looks} times with another part covered; the "
        f"drawings go to {asked.why}."
    )


def _ask(expert: Expert, pictures: list[Picture], asked: Asked, output: "_Output") -> None:
    done, looks = 0, 1 if asked.why is None else 1 + expert.looks_to_explain
    has_bar = len(pictures) > 1 or asked.why is not None
    try:
        with output.console.progress("predict") if has_bar else nullcontext(silent) as report:
            for picture, answer in zip(pictures, expert.answer(pictures, asked.batch_size), strict=True):
                why = output.explain(picture, answer, _shifted(report, done * looks, len(pictures) * looks))
                output.take(answer, picture.source if isinstance(picture.source, Path) else None, why)
                done += 1
                report(done * looks, len(pictures) * looks)
    except KeyboardInterrupt as error:
        raise InterruptedRunError(f"Interrupted after {done} of {len(pictures)} images.") from error


def _shifted(report: Progress, before: int, whole: int) -> Progress:
    """Return the progress of one part of a work, of which so much is done before it."""

    def shifted(done: int, total: int, note: str = "") -> None:
        report(before + done, whole, note)

    return shifted


def _watch(expert: Expert, asked: Asked, output: "_Output") -> None:
    """Answer frames until the user presses Ctrl-C, which is how a camera is ended, or the video is over."""
    try:
        with open_frames(str(asked.camera)) as frames:
            for answer in expert.answer(frames, 1):
                output.take(answer, None)
                if not asked.lines:
                    show_prediction(output.row_of(answer), output.console)
    except KeyboardInterrupt:
        output.console.say("Ended.")
    output.finish()


class _Output:
    """Takes the answers one by one. Only those are kept that a view at the end needs.

    `alone` is the one picture that was named, if it is the only one: what is wrong with it ends the command.
    """

    def __init__(self, expert: Expert, asked: Asked, console: Console, alone: str | None) -> None:
        self.console = console
        self._alone = alone
        self._unsorted: NotWrittenError | None = None
        self._undrawn: NotWrittenError | None = None
        self._expert, self._asked = expert, asked
        self._sorter = None if asked.save is None else Sorter(asked.save, expert.class_names, links=asked.links)
        self._drawings = None if asked.why is None else WhyFolder(asked.why)
        self._explaining_ms = 0.0
        self._keeps = asked.csv is not None or not (asked.lines or asked.camera is not None)
        self._rows: list[dict[str, Any]] = []
        self._counts: Counter[str] = Counter()
        self._unsure, self._outside, self._total = 0, 0, 0
        self._faults: list[NotAnswered] = []

    def row_of(self, answer: Prediction | NotAnswered) -> dict[str, Any]:
        """Return the values of an answer as JSON has them."""
        if isinstance(answer, NotAnswered):
            return answer.to_json()
        return answer.to_json(self._asked.top, self._asked.threshold)

    def explain(self, picture: Picture, answer: Prediction | NotAnswered, report: Progress) -> dict[str, Any] | None:
        """Draw which parts speak for the answer; return what JSON says about it, None where there is no drawing."""
        if self._drawings is None or isinstance(answer, NotAnswered):
            return None
        try:
            found = self._expert.explain_picture(picture, batch_size=self._asked.batch_size, progress=report)
        except DataError as error:
            self.console.warn(f"note: {error}")
            return None
        self._explaining_ms += found.milliseconds
        name = picture.name if isinstance(picture.source, Path) else "standard input"
        try:
            file = self._drawings.put(name, found)
        except NotWrittenError as error:  # the answers count, not the drawings
            self._undrawn, self._drawings = error, None
            return None
        return {"file": printable(str(file)), "sentence": describe_region(found), **found.to_json()}

    def take(self, answer: Prediction | NotAnswered, source: Path | None, why: Mapping[str, Any] | None = None) -> None:
        """Count an answer, print its line, keep its row, and sort its file."""
        row = self.row_of(answer)
        if self._asked.why is not None:
            row["why"] = why
        self._total += 1
        if self._asked.lines:
            self.console.line({"kind": KIND, "schema": SCHEMA, **row})
        if self._keeps:
            self._rows.append(row)
        if isinstance(answer, NotAnswered):
            self._note_fault(answer)
            return
        sure = answer.is_sure(self._asked.threshold)
        self._outside += answer.in_domain is False
        self._unsure += not sure
        if sure:
            self._counts[answer.class_name] += 1
        if self._sorter is not None and source is not None:
            aside = Aside.OUTSIDE if answer.in_domain is False else None if sure else Aside.NOT_SURE
            try:
                self._sorter.put(source, aside or answer.class_name)
            except NotWrittenError as error:  # the answers count, not the copies
                self._unsorted, self._sorter = error, None

    def _note_fault(self, fault: NotAnswered) -> None:
        self._faults.append(fault)
        if len(self._faults) <= _FAULTS_SHOWN and fault.name != self._alone:
            self.console.warn(f"note: {fault.error}")

    def finish(self) -> None:
        """Show everything that waits for the last answer."""
        record = self._record()
        self.console.emit(record)
        if not (self._asked.lines or self._asked.as_json or self._asked.camera is not None):
            show_predictions(record, self.console)
        if self._total > 1:
            self.console.say(describe_counts(record, self._counts))
        if self._sorter is not None:
            self.console.say(f"{self._sorter.count} images are sorted in {self._asked.save}.")
        if self._drawings is not None and self._drawings.count:
            told = words.counted(self._drawings.count, "drawing")
            self.console.say(
                f"{told} in {self._asked.why}, in {words.milliseconds(self._explaining_ms)}: red speaks for the "
                "answer, blue against it, and the frame is around what counts most."
            )
        if self._asked.csv is not None:
            write_text(self._asked.csv, _csv_text(self._rows, self._asked.top))

    def _record(self) -> dict[str, Any]:
        session = self._expert.session
        return {
            "kind": SET_KIND,
            "schema": SCHEMA,
            "bundle": self._expert.bundle.name,
            "runtime": session.runtime,
            "provider": session.provider,
            "precision": session.precision,
            "model_sha256": session.model_sha256,
            "class_names": list(self._expert.class_names),
            "threshold": self._asked.threshold,
            "image_count": self._total,
            "unsure_count": self._unsure,
            "outside_count": self._outside,
            "bad_count": len(self._faults),
            "bad": dict(Counter(fault.reason for fault in self._faults)),
            "predictions": self._rows,
        }

    def require_answers(self, named: frozenset[str]) -> None:
        """Raise DataError when a picture that was named got no answer, or no picture did.

        Raises NotWrittenError when not all could be sorted or drawn.
        """
        for failure in (self._unsorted, self._undrawn):
            if failure is not None:
                raise failure
        if self._faults and self._faults[0].name == self._alone:
            raise self._faults[0].error
        lost = [fault for fault in self._faults if fault.name in named]
        if self._faults and len(self._faults) == self._total:
            raise DataError(f"None of the {self._total} images can be used; the first: {self._faults[0].error}")
        if lost:
            raise DataError(
                f"{len(lost)} of the {len(named)} images that were named cannot be used, such as {lost[0].name}; the "
                "others were answered."
            )


def _csv_text(rows: Iterable[Mapping[str, Any]], top: int) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    more = [f"{what}_{place}" for place in range(2, top + 1) for what in ("class", "probability")]
    writer.writerow([*_COLUMNS, *more])
    for row in rows:
        others = [value for each in row["top"][1:] for value in (each["class"], each["probability"])]
        writer.writerow([*(_csv_cell(row[column]) for column in _COLUMNS), *others])
    return text.getvalue()


def _csv_cell(value: Any) -> Any:
    return ("true" if value else "false") if isinstance(value, bool) else value
