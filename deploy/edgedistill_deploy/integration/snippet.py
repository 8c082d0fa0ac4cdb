"""A small program for one bundle, for applications without EdgeDistill, with the answers that it must give."""

import json
import math
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
from edgedistill_deploy.prediction.expert import Expert
from edgedistill_deploy.records.writing import SCHEMA
from edgedistill_deploy.runtimes.int8_kernels import EXACT_OPTION


@dataclass(frozen=True, slots=True, kw_only=True)
class Language:
    """A language.

    Attributes:
        program: the name of the program.
        literal: how a value is written in it.
        start: the command that starts it.
        png_tolerance: how far a probability may be from ours for a PNG, which is decoded alike everywhere.
        jpeg_tolerance: the same for JPEG; 1 where another decoder reads it, so that only the class is held.
    """

    program: str
    literal: Callable[[Any], str]
    start: str
    png_tolerance: float
    jpeg_tolerance: float


LANGUAGES: Mapping[str, Language] = {
    "python": Language(program="predict.py", literal=ascii, start="python", png_tolerance=0.001, jpeg_tolerance=0.05),
    # Some releases of Pillow scale the vertical axis first and round in between; the program never does.
    "js": Language(program="predict.js", literal=json.dumps, start="node", png_tolerance=0.01, jpeg_tolerance=1.0),
}
EXPECTED = "expected.json"
_IMAGES = "images"
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
    if language not in LANGUAGES:
        raise UsageError(f"There is no program in {language!r}.{nearest_names(language, LANGUAGES)}")
    known = LANGUAGES[language]
    if os.path.lexists(out):
        raise UsageError(f"{out} is there already, and nothing is replaced; choose another --out, or remove it.")
    make_folder(out.parent)
    with Expert(bundle, precision=precision, runtime="onnxruntime", provider="cpu") as expert, beside(out) as temporary:
        folder = temporary / "folder"
        make_folder(folder)
        _copy_model(bundle, expert.model.precision, folder)
        write_text(folder / known.program, _program(expert, known))
        write_json(folder / EXPECTED, _expected(expert, folder, known))
        folder.rename(out)
    names = tuple(sorted(path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()))
    return Snippet(folder=out, program=out / known.program, precision=expert.model.precision, files=names)


def _copy_model(bundle: Bundle, precision: str, folder: Path) -> None:
    role = bundle.role_for(precision)
    for each in (role, f"{role}.data"):
        if bundle.has(each):
            source = bundle.file(each)
            shutil.copyfile(source, folder / source.name)


def _program(expert: Expert, language: Language) -> str:
    """Fill the template in. Every value becomes a literal, whatever the manifest says: nothing in it becomes code."""
    preprocess = expert.preprocess
    is_int8 = computes_in(expert.model.precision) == "int8"
    values: Mapping[str, Any] = {
        "MODEL": expert.session.model_path.name,
        "CLASSES": list(expert.class_names),
        "SIZE": preprocess.size,
        "LEAST": tuple(math.floor(side / preprocess.crop_fraction) for side in preprocess.size),
        "KEEPS_ASPECT": preprocess.resize_mode == "shortest",
        "FILTER": preprocess.interpolation,
        "OPTIONS": _options(language) if is_int8 and expert.session.int8_kernels != "saturating" else {},
    }
    template = files(__package__).joinpath("templates", f"{language.program}.txt").read_text(encoding="utf-8")
    return _PLACE.sub(lambda found: language.literal(values[found[1]]), template)


def _options(language: Language) -> dict[str, Any]:
    """Return what a session needs for INT8; kernels of older processors compute something else without it."""
    name, value = EXACT_OPTION
    group, _, option = name.partition(".")
    return {"extra": {group: {option: value}}} if language.start == "node" else {name: value}


def _expected(expert: Expert, folder: Path, language: Language) -> dict[str, Any]:
    drawn = make_golden_images(expert.preprocess)
    for name, content in zip(drawn.names, drawn.files, strict=True):
        write_bytes(folder / _IMAGES / name, content)
    answers = expert.predict(list(drawn.files))
    return {
        "kind": "expected-answers",
        "schema": SCHEMA,
        "bundle": expert.bundle.name,
        "precision": expert.model.precision,
        "model_sha256": expert.session.model_sha256,
        "answers": [
            {
                "image": f"{_IMAGES}/{name}",
                "class": answer.class_name,
                "probability": answer.probability,
                "in_domain": answer.in_domain,
                "tolerance": language.png_tolerance if name.endswith(".png") else language.jpeg_tolerance,
            }
            for name, answer in zip(drawn.names, answers, strict=True)
        ],
    }
