"""A small program for one bundle, for applications without EdgeDistill, with the answers that it must give."""

import json
import os
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from edgedistill_deploy.bundle.folder import Bundle
from edgedistill_deploy.bundle.precisions import computes_in
from edgedistill_deploy.errors import UsageError, nearest_names
from edgedistill_deploy.files.writing import beside, make_folder, write_bytes, write_json, write_text
from edgedistill_deploy.images.golden import make_golden_images
from edgedistill_deploy.images.preprocess import least_size, scales_tall_pictures_first
from edgedistill_deploy.prediction.expert import Expert
from edgedistill_deploy.records.writing import SCHEMA
from edgedistill_deploy.runtimes.int8_kernels import EXACT_OPTION


@dataclass(frozen=True, slots=True, kw_only=True)
class Language:
    """A language.

    Attributes:
        program: the name of the program.
        literal: how a value is written in it.
        check: the commands that build it, where it must be built, and let it check itself; beside it.
        png_tolerance: how far a probability may be from ours for a PNG, which is decoded alike everywhere.
        jpeg_tolerance: the same for JPEG; 1 where another decoder reads it, so that only the class is held.
    """

    program: str
    literal: Callable[[Any], str]
    check: str
    png_tolerance: float
    jpeg_tolerance: float


_CPP_PLAIN = frozenset(range(0x20, 0x7F)) - {ord(each) for each in '"\\?'}  # "??" begins a trigraph


def _cpp_literal(value: Any) -> str:
    """Return a value in C++: a list or a pair in braces, a text in octal escapes where it is not plain ASCII."""
    if isinstance(value, str):
        escaped = "".join(
            chr(each) if each in _CPP_PLAIN else f"\\{each:03o}" for each in value.encode("utf-8", "surrogatepass")
        )
        return f'"{escaped}"'
    if isinstance(value, list | tuple):
        between = ",\n    " if any(isinstance(each, tuple) for each in value) else ", "
        return f"{{{between.join(map(_cpp_literal, value))}}}"
    if isinstance(value, Mapping):
        return _cpp_literal(list(value.items()))
    return str(value).lower() if isinstance(value, bool) else repr(value)


LANGUAGES: Mapping[str, Language] = {
    "python": Language(
        program="predict.py", literal=ascii, check="python predict.py --check", png_tolerance=0.001, jpeg_tolerance=0.05
    ),
    "js": Language(
        program="predict.js",
        literal=json.dumps,
        check="node predict.js --check",
        png_tolerance=0.001,
        jpeg_tolerance=1.0,
    ),
    "cpp": Language(
        program="predict.cpp",
        literal=_cpp_literal,
        check="g++ -std=c++17 -O2 predict.cpp -o predict -lonnxruntime -lpng -ljpeg && ./predict --check",
        png_tolerance=0.001,
        jpeg_tolerance=0.05,
    ),
}
EXPECTED = "expected.json"
PROGRAM_RUNTIME = "onnxruntime"  # which all the programs use
_IMAGES = "images"
_IN_THE_PROGRAM = ("image", "class", "probability", "tolerance")  # of an expected answer, in this order
_PLACE = re.compile(r"\$([A-Z_]+)\b")


@dataclass(frozen=True, slots=True, kw_only=True)
class Snippet:
    """A written folder, the program in it, the precision of its model, and the names of all files."""

    folder: Path
    program: Path
    precision: str
    files: tuple[str, ...]


def write_snippet(bundle: Bundle, language: str, out: Path, precision: str | None = None) -> Snippet:
    """Write a folder with a program, the model that it runs, pictures drawn by code, and expected.json.

    The program has the bundle's classes, sizes and filter in it, and needs no file of the bundle but the model. The
    answers in expected.json are those of `Expert` on this machine. `out` appears whole or not at all.

    Raises:
        UsageError: an unknown language, or `out` is there already.
        BundleError: there is no such model, or a file was changed.
        NotWrittenError: there is no room, or no right to write.
    """
    known = find_language(language)
    if os.path.lexists(out):
        raise UsageError(f"{out} is there already, and nothing is replaced; choose another --out, or remove it.")
    make_folder(out.parent)
    with (
        Expert(bundle, precision=precision, runtime=PROGRAM_RUNTIME, provider="cpu") as expert,
        beside(out) as temporary,
    ):
        folder = temporary / "folder"
        make_folder(folder)
        _copy_model(bundle, expert.model.precision, folder)
        write_program(expert, known, folder)
        folder.rename(out)
    names = tuple(sorted(path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()))
    return Snippet(folder=out, program=out / known.program, precision=expert.model.precision, files=names)


def find_language(name: str) -> Language:
    """Return the language of this name. Raises UsageError."""
    if name not in LANGUAGES:
        raise UsageError(f"There is no program in {name!r}.{nearest_names(name, LANGUAGES)}")
    return LANGUAGES[name]


def write_program(expert: Expert, language: Language, folder: Path) -> dict[str, Path]:
    """Write the program, expected.json and the pictures into a folder that has the model; return them by role."""
    expected, pictures = _expected(expert, folder, language)
    write_text(folder / language.program, _program(expert, language, expected["answers"]))
    write_json(folder / EXPECTED, expected)
    return {"program": folder / language.program, "expected": folder / EXPECTED, **pictures}


def _copy_model(bundle: Bundle, precision: str, folder: Path) -> None:
    role = bundle.role_for(precision)
    for each in (role, f"{role}.data"):
        if bundle.has(each):
            source = bundle.file(each)
            shutil.copyfile(source, folder / source.name)


def _program(expert: Expert, language: Language, answers: list[dict[str, Any]]) -> str:
    """Fill the template in. Every value becomes a literal, whatever the manifest says: nothing in it becomes code."""
    preprocess = expert.preprocess
    is_int8 = computes_in(expert.model.precision) == "int8"
    values: Mapping[str, Any] = {
        "MODEL": expert.session.model_path.name,
        "CLASSES": list(expert.class_names),
        "SIZE": preprocess.size,
        "LEAST": least_size(preprocess),
        "KEEPS_ASPECT": preprocess.resize_mode == "shortest",
        "FILTER": preprocess.interpolation,
        "TALL_FIRST": scales_tall_pictures_first(),
        "OPTIONS": _options(language) if is_int8 and expert.session.int8_kernels != "saturating" else {},
        "EXPECTED": [tuple(each[key] for key in _IN_THE_PROGRAM) for each in answers],
    }
    template = files(__package__).joinpath("templates", f"{language.program}.txt").read_text(encoding="utf-8")
    return _PLACE.sub(lambda found: language.literal(values[found[1]]), template)


def _options(language: Language) -> dict[str, Any]:
    """Return what a session needs for INT8; kernels of older processors compute something else without it."""
    name, value = EXACT_OPTION
    group, _, option = name.partition(".")
    return {"extra": {group: {option: value}}} if language.program.endswith(".js") else {name: value}


def _expected(expert: Expert, folder: Path, language: Language) -> tuple[dict[str, Any], dict[str, Path]]:
    """Write the pictures; return the record of their answers, and the files by role."""
    drawn = make_golden_images(expert.preprocess)
    pictures = {f"{_IMAGES}/{name}": folder / _IMAGES / name for name in drawn.names}
    for path, content in zip(pictures.values(), drawn.files, strict=True):
        write_bytes(path, content)
    answers = expert.predict(list(drawn.files))
    record = {
        "kind": "expected-answers",
        "schema": SCHEMA,
        "bundle": expert.bundle.name,
        "precision": expert.model.precision,
        "model_sha256": expert.session.model_sha256,
        "answers": [
            {
                "image": image,
                "class": answer.class_name,
                "probability": answer.probability,
                "in_domain": answer.in_domain,
                "tolerance": language.png_tolerance if image.endswith(".png") else language.jpeg_tolerance,
            }
            for image, answer in zip(pictures, answers, strict=True)
        ],
    }
    return record, pictures
