"""`snippet`: the program that it writes runs without EdgeDistill, and says what `predict` says."""

import ast
import json
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from command import run_command
from edgedistill_deploy.bundle.folder import Bundle
from edgedistill_deploy.images.decode import read_image
from edgedistill_deploy.images.preprocess import Preprocess
from edgedistill_deploy.prediction.expert import Expert
from reference.colour_bundles import colour_bundle
from reference.colour_pictures import add_decision, changed, picture

PREPARATIONS = (
    Preprocess(size=(8, 8)),
    Preprocess(size=(8, 8), crop_fraction=0.875, interpolation="bicubic"),
    Preprocess(size=(8, 8), resize_mode="squash", crop_fraction=0.9, interpolation="lanczos"),
    Preprocess(size=(8, 8), interpolation="nearest"),
)


def run_program(program: Path, *words: str | Path) -> subprocess.CompletedProcess[str]:
    """Run a program in a process that finds no EdgeDistill."""
    block = "import sys, runpy; sys.modules.update(dict.fromkeys(['edgedistill_deploy', 'edgedistill'])); "
    start = f"{block} sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"
    command = [sys.executable, "-c", start, str(program), *map(str, words)]
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=120)


NODE_MODULES = os.environ.get("EDGEDISTILL_NODE_MODULES", "")
needs_node = pytest.mark.skipif(
    not (NODE_MODULES and shutil.which("node")),
    reason="EDGEDISTILL_NODE_MODULES names no node_modules with onnxruntime-node, pngjs and jpeg-js",
)


def run_js(program: Path, *words: str | Path) -> subprocess.CompletedProcess[str]:
    command = ["node", str(program), *map(str, words)]
    environment = {**os.environ, "NODE_PATH": NODE_MODULES}
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=120, env=environment)


def node_pixels(program: Path, pictures: list[Path]) -> bytes:
    """Return what the JavaScript prepares, one picture after the other."""
    source, _, end = program.read_text(encoding="utf-8").rpartition("main().catch(")
    assert end
    probe = program.with_name("probe.js")
    write_out = "for (const file of process.argv.slice(2)) fs.writeSync(1, Buffer.from(prepare(file)));"
    probe.write_text(source + write_out, encoding="utf-8")
    command = ["node", str(probe), *map(str, pictures)]
    return subprocess.run(
        command, check=True, capture_output=True, timeout=120, env={**os.environ, "NODE_PATH": NODE_MODULES}
    ).stdout


def find_library() -> Path | None:
    """Return the library of ONNX Runtime that lies in the package of Node, for this processor."""
    machine = {"x86_64": "x64", "aarch64": "arm64"}.get(platform.machine(), "")
    pattern = f"onnxruntime-node/bin/napi-v*/linux/{machine}/libonnxruntime.so.1"
    return next(iter(Path(NODE_MODULES).glob(pattern)), None) if NODE_MODULES and machine else None


LIBRARY = find_library()
needs_cpp = pytest.mark.skipif(
    LIBRARY is None
    or shutil.which("g++") is None
    or not all(Path("/usr/include", name).is_file() for name in ("png.h", "jpeglib.h")),
    reason="there is no g++ with libpng and libjpeg, or EDGEDISTILL_NODE_MODULES names no library of ONNX Runtime",
)


def build_cpp(program: Path) -> Path:
    """Compile the program, with a way to see what it prepares: --pixels FILE..."""
    probe = program.with_name("probe.cpp")
    probe.write_text(
        """
#define main expert_main
#include "predict.cpp"
#undef main
int main(int count, char** words) {
  if (count < 2 || std::string(words[1]) != "--pixels") return expert_main(count, words);
  for (int each = 2; each < count; each++) {
    const std::vector<uint8_t> pixels = prepare(words[each]);
    std::fwrite(pixels.data(), 1, pixels.size(), stdout);
  }
}
""",
        encoding="utf-8",
    )
    assert LIBRARY is not None
    built = program.with_name("predict")
    command = ["g++", "-std=c++17", "-Wall", "-Wextra", "-Werror", str(probe), "-o", str(built), str(LIBRARY)]
    libraries = ["-lpng", "-ljpeg", f"-Wl,-rpath,{LIBRARY.parent}"]
    outcome = subprocess.run([*command, *libraries], check=False, capture_output=True, text=True, timeout=300)
    assert outcome.returncode == 0, outcome.stderr
    return built


def run_cpp(program: Path, *words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(program), *map(str, words)], check=False, capture_output=True, text=True, timeout=120, encoding="utf-8"
    )


def write_turned(folder: Path) -> list[Path]:
    """Write pictures of all eight orientations, as PNG and as JPEG."""
    written = []
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        for kind in ("png", "jpg"):
            written.append(folder / f"turned{orientation}.{kind}")
            picture("yellow", (50, 20), seed=orientation).save(written[-1], exif=exif)
    return written


def expected_pixels(preprocess: Preprocess, pictures: list[Path]) -> NDArray[np.int16]:
    return np.stack([preprocess.apply(read_image(path)) for path in pictures]).astype(np.int16)


def require_pixels(given: bytes, preprocess: Preprocess, pictures: list[Path]) -> None:
    """Require that a program prepares PNG files within a level of what we prepare."""
    expected = expected_pixels(preprocess, pictures)
    found = np.frombuffer(given, np.uint8).reshape(expected.shape).astype(np.int16)
    apart = dict(zip((path.name for path in pictures), np.abs(found - expected).max(axis=(1, 2, 3)), strict=True))
    assert max(apart.values()) <= 1, apart


def write(bundle: Bundle, *words: str | Path, language: str = "python") -> Path:
    outcome = run_command("snippet", bundle.path, "--language", language, *words, "--json")
    assert outcome.code == 0, outcome.stderr
    record = json.loads(outcome.stdout)
    folder = Path(record["path"])
    assert sorted(record["files"]) == sorted(
        path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()
    )
    return Path(record["program"])


def write_many_kinds(folder: Path) -> list[Path]:
    """Write pictures of every shape and of the kinds that are read in their own way."""
    folder.mkdir()
    red, green = picture("red", (61, 40)), picture("green", (17, 90))
    clear = picture("yellow", (33, 33)).convert("RGBA")
    clear.putalpha(Image.linear_gradient("L").resize(clear.size))
    exif = Image.Exif()
    exif[0x0112] = 8
    wide = np.linspace(0, 65535, 40 * 30).reshape(30, 40).astype(np.uint16)
    kinds: dict[str, tuple[Image.Image, dict[str, Any]]] = {
        "wide.png": (red, {}),
        "tall.png": (green, {}),
        "tiny.png": (picture("red", (3, 2)), {}),
        "exact.png": (picture("green", (8, 8)), {}),
        "clear.png": (clear, {}),
        "palette.png": (red.quantize(9), {}),
        "keyed.png": (green.quantize(9), {"transparency": 3}),
        "grey.png": (red.convert("L"), {}),
        "bits.png": (green.convert("1"), {}),
        "sixteen.png": (Image.fromarray(wide), {}),
        "turned.png": (picture("yellow", (50, 20)), {"exif": exif}),
        "photo.jpg": (red, {"quality": 90}),
        "cmyk.jpg": (green.convert("CMYK"), {}),
    }
    for name, (image, options) in kinds.items():
        image.save(folder / name, **options)
    return [folder / name for name in kinds]


@pytest.mark.parametrize("preprocess", PREPARATIONS, ids=lambda each: f"{each.resize_mode}-{each.interpolation}")
def test_the_program_says_what_predict_says(tmp_path: Path, preprocess: Preprocess) -> None:
    bundle = colour_bundle(tmp_path / "colours", 12)
    bundle = bundle.with_fields(preprocess={**preprocess.to_json(), "digest": preprocess.digest})
    bundle = changed(bundle, add_decision)
    program = write(bundle)
    assert program == tmp_path / "colours-python" / "predict.py"
    pictures = write_many_kinds(tmp_path / "photos")
    found = run_program(program, *pictures)
    assert found.returncode == 0, found.stderr
    answers = [json.loads(line) for line in found.stdout.splitlines()]
    with Expert(bundle) as expert:
        for answer, ours in zip(answers, expert.predict(pictures), strict=True):
            assert (answer["class"], answer["in_domain"]) == (ours.class_name, ours.in_domain)
            assert answer["probability"] == pytest.approx(ours.probability, abs=1e-6)


@needs_node
@pytest.mark.parametrize("preprocess", PREPARATIONS, ids=lambda each: f"{each.resize_mode}-{each.interpolation}")
def test_the_javascript_says_what_predict_says(tmp_path: Path, preprocess: Preprocess) -> None:
    bundle = colour_bundle(tmp_path / "colours", 12)
    bundle = bundle.with_fields(preprocess={**preprocess.to_json(), "digest": preprocess.digest})
    bundle = changed(bundle, add_decision)
    program = write(bundle, language="js")
    pictures = [path for path in write_many_kinds(tmp_path / "photos") if path.name != "cmyk.jpg"]
    pictures += write_turned(tmp_path / "photos")
    found = run_js(program, *pictures)
    assert found.returncode == 0, found.stderr
    answers = [json.loads(line) for line in found.stdout.splitlines()]
    with Expert(bundle) as expert:
        for answer, ours in zip(answers, expert.predict(pictures), strict=True):
            assert answer["class"] == ours.class_name
            if answer["image"].endswith(".png"):
                assert answer["in_domain"] == ours.in_domain
                assert answer["probability"] == pytest.approx(ours.probability, abs=1e-3)
    decoded_alike = [path for path in pictures if path.suffix == ".png"]
    require_pixels(node_pixels(program, decoded_alike), preprocess, decoded_alike)
    checked = run_js(program, "--check")
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert checked.stdout.count("as expected: images/") == 6


@needs_cpp
@pytest.mark.parametrize("preprocess", PREPARATIONS[:3], ids=lambda each: f"{each.resize_mode}-{each.interpolation}")
def test_the_cpp_says_what_predict_says(tmp_path: Path, preprocess: Preprocess) -> None:
    bundle = colour_bundle(tmp_path / "colours", 12)
    bundle = bundle.with_fields(preprocess={**preprocess.to_json(), "digest": preprocess.digest})
    bundle = changed(bundle, add_decision)
    program = build_cpp(write(bundle, language="cpp"))
    pictures = [*write_many_kinds(tmp_path / "photos"), *write_turned(tmp_path / "photos")]
    found = run_cpp(program, *pictures)
    assert found.returncode == 0, found.stderr
    answers = [json.loads(line) for line in found.stdout.splitlines()]
    of_jpeg = []
    with Expert(bundle) as expert:
        for answer, ours in zip(answers, expert.predict(pictures), strict=True):
            assert (answer["class"], answer["in_domain"]) == (ours.class_name, ours.in_domain)
            if answer["image"].endswith(".png"):
                assert answer["probability"] == pytest.approx(ours.probability, abs=1e-3)
            else:
                of_jpeg.append(abs(answer["probability"] - ours.probability))
    print(f"JPEG: probabilities {max(of_jpeg):.1e} apart at most")
    decoded_alike = [path for path in pictures if path.suffix == ".png"]
    pixels = subprocess.run([program, "--pixels", *decoded_alike], check=True, capture_output=True, timeout=120).stdout
    require_pixels(pixels, preprocess, decoded_alike)
    checked = run_cpp(program, "--check")
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert checked.stdout.count("as expected: images/") == 6
    (program.parent / "images" / "portrait.png").write_bytes((program.parent / "images" / "grey.png").read_bytes())
    checked = run_cpp(program, "--check")
    assert checked.returncode == 1
    assert checked.stdout.count("DIFFERENT: images/portrait.png") == 1


@needs_cpp
def test_the_cpp_says_what_it_cannot_read_and_takes_any_name_of_a_class(tmp_path: Path) -> None:
    names = ["red", '"; int x = 1; // ??/ \\', "grün {$MODEL} %s"]
    bundle = colour_bundle(tmp_path / "colours", 12)
    preprocess = PREPARATIONS[3]
    bundle = bundle.with_fields(
        subtask={"name": "x", "class_names": names, "class_indices": [0, 1, 2]},
        preprocess={**preprocess.to_json(), "digest": preprocess.digest},
    )
    program = build_cpp(write(bundle, language="cpp"))
    for name, colour in ((names[1], "green"), (names[2], "yellow")):
        picture(colour).save(tmp_path / 'a "b".png')
        found = run_cpp(program, tmp_path / 'a "b".png')
        assert json.loads(found.stdout)["class"] == name
        assert json.loads(found.stdout)["image"] == str(tmp_path / 'a "b".png')
    photos = [path for path in write_many_kinds(tmp_path / "photos") if path.suffix == ".png"]
    pixels = subprocess.run([program, "--pixels", *photos], check=True, capture_output=True, timeout=120).stdout
    require_pixels(pixels, preprocess, photos)
    whole = (tmp_path / 'a "b".png').read_bytes()
    picture("red").save(tmp_path / "whole.jpg")
    broken = {
        "page.jpg": b"<html>",
        "empty.png": b"",
        "cut.png": whole[: len(whole) // 2],
        "cut.jpg": (tmp_path / "whole.jpg").read_bytes()[:-200],
        "head.png": b"\x89PNG",
    }
    for name, content in broken.items():
        (tmp_path / name).write_bytes(content)
    for name in (*broken, "none.png"):
        found = run_cpp(program, tmp_path / name)
        assert (found.returncode, found.stdout) == (1, ""), name
        assert found.stderr.startswith(f"error: {tmp_path / name}: "), found.stderr
        assert found.stderr.count("\n") == 1
    assert run_cpp(program).stderr == "error: Name pictures, or --check.\n"


@needs_node
def test_the_javascript_says_what_it_cannot_read(tmp_path: Path) -> None:
    program = write(colour_bundle(tmp_path / "colours", 12), language="js")
    (tmp_path / "page.jpg").write_bytes(b"<html>")
    for word in (tmp_path / "page.jpg", tmp_path / "none.png"):
        found = run_js(program, word)
        assert (found.returncode, found.stdout) == (1, "")
        assert found.stderr.startswith("error: ")


def test_the_program_checks_itself(tmp_path: Path) -> None:
    program = write(colour_bundle(tmp_path / "colours", 12), "--out", tmp_path / "deep" / "own", "--precision", "fp32")
    moved = shutil.move(program.parent, tmp_path / "moved")
    found = run_program(Path(moved) / "predict.py", "--check")
    assert found.returncode == 0, found.stdout + found.stderr
    assert found.stdout.count("as expected: images/") == 6
    expected = json.loads((tmp_path / "moved" / "expected.json").read_text(encoding="utf-8"))
    expected["answers"][1]["probability"] -= 0.01
    (tmp_path / "moved" / "expected.json").write_text(json.dumps(expected), encoding="utf-8")
    found = run_program(tmp_path / "moved" / "predict.py", "--check")
    assert found.returncode == 1
    assert found.stdout.count("DIFFERENT: images/portrait.png") == 1
    assert "python predict.py photo.jpg" in run_program(tmp_path / "moved" / "predict.py").stderr


def test_nothing_in_a_manifest_becomes_code(tmp_path: Path) -> None:
    names = ["red", '"]; import os; os.mkdir("owned") #', "'''$MODEL${SIZE}\\"]
    bundle = colour_bundle(tmp_path / "colours", 12)
    bundle = bundle.with_fields(subtask={"name": "x", "class_names": names, "class_indices": [0, 1, 2]})
    odd = bundle.path / "mo'del\"$SIZE.onnx"
    os.rename(bundle.path / "model.fp32.onnx", odd)  # noqa: PTH104
    program = write(bundle.with_file("model.fp32", odd))
    picture("green").save(tmp_path / "green.png")
    found = run_program(program, tmp_path / "green.png")
    assert json.loads(found.stdout)["class"] == names[1]
    assert not (Path.cwd() / "owned").exists()
    tree = ast.parse(program.read_text(encoding="utf-8"))
    assigned = {
        node.targets[0].id: ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id == "CLASSES"
    }
    assert assigned == {"CLASSES": names}


def test_int8_is_computed_as_the_file_means_it(built_run: Path, tmp_path: Path) -> None:
    outcome = run_command("snippet", built_run, "--precision", "int8", "--out", tmp_path / "int8")
    assert outcome.code == 0, outcome.stderr
    assert "session.x64quantprecision" in (tmp_path / "int8" / "predict.py").read_text(encoding="utf-8")
    found = run_program(tmp_path / "int8" / "predict.py", "--check")
    assert found.returncode == 0, found.stdout + found.stderr


def test_what_cannot_be_written_is_one_sentence_and_leaves_nothing(tmp_path: Path) -> None:
    bundle = colour_bundle(tmp_path / "colours", 12)
    (tmp_path / "there").mkdir()
    for words, code, message in (
        (("--language", "pyton"), 2, "There is no program in 'pyton'. Did you mean python?"),
        (("--out", str(tmp_path / "there")), 2, "there is there already, and nothing is replaced"),
        (("--precision", "int8"), 1, "has no model of precision int8"),
    ):
        outcome = run_command("snippet", bundle.path, *words)
        assert (outcome.code, outcome.stdout) == (code, "")
        assert message in outcome.stderr
    (bundle.path / "model.fp32.onnx").write_bytes(b"changed")
    assert run_command("snippet", bundle.path).code == 1
    assert {path.name for path in tmp_path.iterdir()} == {"colours", "there"}
