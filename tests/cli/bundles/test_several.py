"""`validate` and `profile` on several bundles: one document, one exit code, one summary, and nothing hidden."""

import json
from pathlib import Path

import pytest

from command import run_command
from edgedistill_cli.exit_codes import worst_code
from reference.class_bundles import ANIMALS, LION, animals, class_bundle, dead_lions

SOUND = [(LION, LION, LION)] * 40
FEW = [(place, place, place) for place in range(len(ANIMALS)) for _ in range(3)]


@pytest.fixture
def experts(tmp_path: Path) -> dict[str, Path]:
    """Three bundles that are judged differently."""
    rows = {"sound": animals(SOUND), "blind": animals(dead_lions()), "few": FEW}
    return {name: class_bundle(tmp_path / name, each).path for name, each in rows.items()}


@pytest.mark.parametrize(("codes", "worst"), [((0, 0), 0), ((0, 4), 4), ((4, 3, 0), 3), ((3, 1, 4), 1), ((1, 2), 2)])
def test_nothing_hides_that_something_could_not_be_judged(codes: tuple[int, ...], worst: int) -> None:
    assert worst_code(codes) == worst


@pytest.mark.parametrize(
    ("names", "code", "verdict"),
    [(("sound", "few"), 4, "inconclusive"), (("few", "blind", "sound"), 3, "fail"), (("blind", "lost"), 1, "error")],
)
def test_the_exit_code_is_the_worst_and_each_bundle_has_its_document(
    experts: dict[str, Path], tmp_path: Path, names: tuple[str, ...], code: int, verdict: str
) -> None:
    outcome = run_command("validate", *(tmp_path / name for name in names), "--json")
    document = json.loads(outcome.stdout)
    assert (outcome.code, document["kind"], document["schema"], document["verdict"]) == (code, "bundle-set", 1, verdict)
    assert [each["bundle"] for each in document["bundles"]] == list(names)
    for each in document["bundles"]:
        if each["bundle"] == "lost":
            assert (each["kind"], each["verdict"], each["exit_code"]) == ("failure", "error", 1)
            assert "does not exist" in each["error"]
            assert "error: lost: The bundle" in outcome.stderr
            continue
        alone = json.loads(run_command("validate", experts[each["bundle"]], "--json").stdout)
        assert alone["kind"] == "parity-set"
        assert {key: value for key, value in each.items() if key not in ("bundle", "path")} == alone


def test_one_bundle_gives_what_it_gave_before(experts: dict[str, Path]) -> None:
    document = json.loads(run_command("validate", experts["sound"], "--precision", "fp32", "--json").stdout)
    assert (document["kind"], document["bundle"]) == ("parity", "sound")


def test_show_prints_the_document_of_several(experts: dict[str, Path], tmp_path: Path) -> None:
    printed = run_command("validate", experts["sound"], tmp_path / "lost", experts["blind"], "--json")
    (tmp_path / "all.json").write_text(printed.stdout, encoding="utf-8")
    shown = run_command("show", tmp_path / "all.json")
    assert shown.code == 0, shown.stderr
    for expected in ("sound: pass", "lost: error", "does not exist", "blind: fail", "'lion'"):
        assert expected in shown.stdout


def test_profile_takes_several_and_holds_each_to_the_budget(experts: dict[str, Path]) -> None:
    flags = ("--duration", "0.05", "--warmup", "0", "--budget-ms", "0.000001", "--json")
    outcome = run_command("profile", experts["sound"], experts["few"], *flags)
    document = json.loads(outcome.stdout)
    assert (outcome.code, document["task"], document["verdict"]) == (3, "profile", "fail")
    assert [(each["bundle"], each["kind"]) for each in document["bundles"]] == [
        ("sound", "latency-set"), ("few", "latency-set"),
    ]  # fmt: skip
    assert all((folder / "latency").is_dir() for folder in (experts["sound"], experts["few"]))


def test_records_and_pictures_of_each_bundle_have_a_folder_of_their_own(
    experts: dict[str, Path], tmp_path: Path
) -> None:
    pair = (experts["sound"], experts["blind"])
    outcome = run_command("validate", *pair, "--record", tmp_path / "kept", "--flips", tmp_path / "flips")
    assert outcome.code == 3, outcome.stderr
    assert {path.parts[-3] for path in (tmp_path / "kept").glob("*/parity/*.json")} == {"sound", "blind"}
    assert {path.name for path in (tmp_path / "flips").iterdir()} == {"sound", "blind"}


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("sound",), "was given twice; name each bundle once."),
        (("other/sound", "--record", "kept"), "would both write into"),
    ],
)
def test_what_would_be_mixed_up_is_refused(
    experts: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: tuple[str, ...], message: str
) -> None:
    class_bundle(tmp_path / "other" / "sound", FEW)
    monkeypatch.chdir(tmp_path)
    outcome = run_command("validate", experts["sound"], *more)
    assert (outcome.code, message in outcome.stderr) == (2, True), outcome.stderr


def test_bundles_of_one_name_are_told_apart_by_their_paths(
    experts: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class_bundle(tmp_path / "other" / "sound", animals(dead_lions()))
    monkeypatch.chdir(tmp_path)
    outcome = run_command("validate", "sound", "other/sound", "--markdown", "-")
    assert outcome.code == 3
    assert "### ✅ sound pass" in outcome.stdout
    assert "### ❌ other/sound fail" in outcome.stdout


def test_earlier_records_are_of_one_bundle(experts: dict[str, Path], tmp_path: Path) -> None:
    run_command("profile", experts["few"], "--precision", "fp32", "--duration", "0.05", "--warmup", "0")
    (record,) = (experts["few"] / "latency").glob("*.json")
    outcome = run_command("profile", experts["few"], experts["sound"], "--against", record)
    assert (outcome.code, "is compared with one bundle, and 2 were given" in outcome.stderr) == (2, True)
