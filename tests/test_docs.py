"""What the documentation tells people to type works."""

import re
import runpy
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest

from command import run_command, write_quick_settings, write_tiny_digits
from forking import finish, fork
from shapes import draw_shape, train_shape_teacher, write_shape_folder

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def shell_lines(page: Path) -> list[str]:
    blocks = re.findall(r"```sh\n(.*?)```", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    lines = [line.split("#")[0].strip() for block in blocks for line in block.splitlines()]
    return [line for line in lines if line]


def edgedistill_lines() -> list[str]:
    return [line for page in PAGES for line in shell_lines(page) if line.startswith("edgedistill ")]


def test_the_readme_shows_the_commands_it_promises() -> None:
    assert {shlex.split(line)[1] for line in edgedistill_lines()} >= {
        "build", "distill", "inspect", "compare", "export", "calibrate", "validate", "profile", "report", "doctor",
        "subtasks", "predict",
    }  # fmt: skip


def test_every_make_target_that_is_named_exists() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    named = {line.split()[1] for page in PAGES for line in shell_lines(page) if line.startswith("make ")}
    assert named >= {"demo", "test", "check"}
    assert all(re.search(rf"^{target}:", makefile, flags=re.MULTILINE) for target in named)


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What the words of the documentation stand for: folders of images, and a teacher and a student for them."""
    folder = tmp_path_factory.mktemp("docs")
    data = write_shape_folder(folder / "data", count=20, formats=("RGB.png",))
    unsorted = folder / "photographs"
    unsorted.mkdir()
    for path in write_shape_folder(folder / "others", count=3, seed=1, formats=("RGB.png",)).rglob("*.png"):
        path.rename(unsorted / f"{path.parent.name}-{path.name}")
    teacher = train_shape_teacher(folder / "teacher", steps=5)
    return {
        "FOLDER": str(data),
        "photos": str(data),
        "photo.jpg": str(next(data.rglob("*.png"))),
        "sorted": str(folder / "sorted"),
        "photographs": str(unsorted),
        "new-photographs": str(unsorted),
        "tabby,golden retriever,red fox": "circle,square,cross",
        "tabby,golden retriever": "circle,square",
        "tabby,Egyptian cat,red fox": "circle,square,cross",
        "cat=tabby|tiger cat|Persian cat|Siamese cat|Egyptian cat,dog=imagenet/dog": "cat=circle|square,dog=cross",
        "timm:resnet50": str(teacher),
        "timm:convnext_tiny": str(train_shape_teacher(folder / "another", steps=4)),
        "timm:mobilenetv4_conv_small_050": "timm:lcnet_035",
        "timm:resnet10t@0.125,plain:8-16-32": "plain:4-8,plain:8-16",
    }


@pytest.fixture(scope="module")
def expert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of a small expert of few images, on which every command is quick."""
    folder = tmp_path_factory.mktemp("expert")
    digits = write_tiny_digits(folder / "few.npz", counts=(16, 6, 8))
    settings = write_quick_settings(folder / "settings.toml", digits, student="plain:8-8", opset=17)
    outcome = run_command("build", "--config", settings, "--out", folder / "run", "--json")
    assert outcome.code in (0, 3, 4), outcome.stderr
    return folder / "run"


@pytest.fixture
def my_expert(expert: Path, tmp_path: Path) -> Path:
    """A copy of it for a command to change."""
    return shutil.copytree(expert, tmp_path / "run")


@pytest.mark.parametrize("line", dict.fromkeys(edgedistill_lines()))
def test_every_command_in_the_documentation_runs(
    line: str, workplace: dict[str, str], my_expert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # some commands write a file there
    if "other-expert" in line:
        shutil.copytree(my_expert, tmp_path / "other-expert")
    words = [workplace.get(word, word) for word in shlex.split(line)[1:]]
    if words[0] in ("build", "distill"):
        words = [str(tmp_path / "out") if word == "my-expert" else word for word in words]
        words += ["--dry-run"] if words[0] == "build" else ["--epochs", "1", "--compute", "cpu"]
    else:
        words = [re.sub("^my-expert(?=/|$)", str(my_expert), word) for word in words]
    if words[0] == "compare" and "--dry-run" not in words:
        words += ["--dry-run", "--out", str(tmp_path / "compared")]
    if words[0] in ("profile", "plan"):
        words += ["--duration", "0.05", "--warmup", "0"]
    outcome = run_command(*words)
    is_gate = words[0] == "validate" or "--budget-ms" in words
    assert outcome.code in ((0, 3, 4) if is_gate else (0,)), outcome.stderr


def shown_lines() -> list[str]:
    """Return the commands that need what a test has not: a device, a GPU, another build of ONNX Runtime."""
    blocks = [
        block
        for page in PAGES
        for block in re.findall(r"```console\n(.*?)```", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    ]
    found = [line.split(" #")[0].strip() for block in blocks for line in block.splitlines()]
    return [line.removeprefix("$ ") for line in found if line.startswith("$ edgedistill ")]


@pytest.mark.parametrize("line", dict.fromkeys(shown_lines()))
def test_what_cannot_be_run_here_has_the_flags_that_are_shown(line: str) -> None:
    words = shlex.split(line)[1:]
    command = words[:2] if words[0] == "devices" else words[:1]
    shown = run_command(*command, "--help")
    assert shown.code == 0
    for flag in (word.split("=")[0] for word in words if word.startswith("--")):
        assert re.search(rf"{re.escape(flag)}\b", shown.stdout), f"{command} has no {flag}"


def anchors_of(page: Path) -> set[str]:
    """Return what GitHub calls the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_links_inside_the_documentation_lead_somewhere() -> None:
    for page in PAGES:
        for target, anchor in re.findall(r"\]\(([^)#]*)#?([^)]*)\)", page.read_text(encoding="utf-8")):
            if not target.startswith("http"):
                goal = page.parent / target if target else page
                assert goal.exists(), f"{page.name} links to {target}"
                assert not anchor or anchor in anchors_of(goal), f"{page.name} links to {target}#{anchor}"


def prose(page: Path) -> list[str]:
    text = re.sub(r"^ *```.*?^ *```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    return [line for line in text.splitlines() if not line.startswith("|")]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_lines_of_prose_are_at_most_120_characters_wide(page: Path) -> None:
    assert [line for line in prose(page) if len(line) > 120] == []


def test_the_readmes_comparison_is_the_recorded_one() -> None:
    results = (ROOT / "benchmarks" / "RESULTS.md").read_text(encoding="utf-8")
    recorded = re.findall(r"^\|.*?\| ([\d.]+) \| ([+-][\d.]+ \[[^]]*\]) \| ([a-z ]+) \|", results, flags=re.MULTILINE)
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    shown = re.findall(r"^\| [\w -]+ \| ([\d.]+) \| ([+-][\d.]+ \[.*?\]) \| ([a-z ]+) \|$", readme, flags=re.MULTILINE)
    assert len(shown) == 9
    assert set(shown) <= set(recorded)


def test_the_readmes_times_are_recorded_ones() -> None:
    readme, results = ((ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "benchmarks/RESULTS.md"))
    told = readme.partition("### How long it takes")[2].partition("\n## ")[0]
    table = results.partition("## Photographs of 224 pixels")[2].partition("\n## ")[0]
    figures = set(re.findall(r"\b\d+\.\d+\b|\b\d+(?= s\b)", told))
    assert len(figures) >= 6
    assert figures <= set(re.findall(r"\d+\.\d+|\d+", table))


@pytest.mark.parametrize("all_digits", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_the_quickstart_is_short_and_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, all_digits: bool) -> None:
    source = (ROOT / "examples" / "quickstart.py").read_text(encoding="utf-8")
    code = [line for line in source.splitlines() if line and not line.startswith('"""')]
    assert len(code) <= 15
    if not all_digits:
        few = write_tiny_digits(tmp_path / "few.npz", classes="0123456789", counts=(8, 3, 4))
        assert source.count('"embedded:digits"') == 1
        source = source.replace('"embedded:digits"', f'"npz:{few}"')
        assert source.count("sample[None])") == 1
        source = source.replace("sample[None])", "sample[None], device.LatencyConfig(duration_s=0.1, warmup_s=0.1))")
    script, output = tmp_path / "script.py", tmp_path / "output.txt"
    script.write_text(source, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    ended = finish(fork(runpy.run_path, str(script), None, "__main__", output=output), within_s=600)
    said = output.read_text(encoding="utf-8")
    assert ended == 0, said
    assert (tmp_path / "quickstart" / "report.html").is_file()
    assert said.strip().endswith("report.html")


def test_the_example_of_a_program_is_five_lines_and_runs(
    expert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    source = (ROOT / "examples" / "predict.py").read_text(encoding="utf-8")
    code = [line for line in source.splitlines() if line and not line.startswith('"""')]
    assert len(code) <= 5
    assert "\n".join(code) in (ROOT / "docs" / "predict.md").read_text(encoding="utf-8").replace("\n\n", "\n")
    (tmp_path / "my-expert").symlink_to(expert)
    draw_shape("circle", np.random.default_rng(0)).save(tmp_path / "photo.jpg")
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(ROOT / "examples" / "predict.py"), run_name="__main__")
    assert re.fullmatch(r"[0-3]: \d+\.\d% in \d+\.\d ms\n", capsys.readouterr().out)
