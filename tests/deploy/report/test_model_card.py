"""The model card, read as Hugging Face's own library reads it."""

import importlib
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from edgedistill_deploy.bundle.folder import Bundle, open_bundle
from edgedistill_deploy.parity.check import check_parity, write_parity
from edgedistill_deploy.report.model_card import write_model_card
from edgedistill_deploy.runtimes.opening import open_session
from reference.class_bundles import ANIMALS, animals, class_bundle, dead_lions


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    """An expert with a dead class, which was judged."""
    made = class_bundle(tmp_path / "savannah", animals(dead_lions()))
    with open_session(made) as session:
        write_parity(made, check_parity(made, session))
    return made


def card_of(path: Path) -> Any:
    """Read a card with the library of the hub; it has `data` (the metadata) and `text`."""
    return importlib.import_module("huggingface_hub").ModelCard(path.read_text(encoding="utf-8"))


def test_the_hubs_library_reads_the_metadata(bundle: Bundle) -> None:
    (path,) = write_model_card(bundle)
    assert path == bundle.path / "README.md"
    data = card_of(path).data.to_dict()
    assert (data["pipeline_tag"], data["license"], data["library_name"]) == ("image-classification", "unknown", "onnx")
    assert "edgedistill" in data["tags"]
    (model,) = data["model-index"]
    (result,) = model["results"]
    (metric,) = result["metrics"]
    assert (model["name"], metric["type"]) == ("savannah", "accuracy")
    assert metric["value"] == pytest.approx(280 / 320)  # every animal but the lions


def test_the_card_says_what_is_known_and_what_is_wrong(bundle: Bundle) -> None:
    (path,) = write_model_card(bundle)
    text = card_of(path).text
    for place, name in enumerate(ANIMALS):
        assert f"| {place} | {name} |" in text
    assert "| expert fp32 |" in text
    assert "87.5 %" in text
    assert "lion" in text.partition("## Limits")[2].partition("## Licences")[0]
    assert text.partition("## Licences")[2].count("not stated") == 2
    assert "Training images: not stated." in text


def test_stated_licences_are_in_the_metadata_and_in_the_text(bundle: Bundle) -> None:
    stated = bundle.with_fields(licences={"teacher": "apache-2.0", "data": 'mine: "all" # of them'})
    (path,) = write_model_card(stated)
    card = card_of(path)
    assert card.data.license == "other"
    assert card.data.to_dict()["license_name"] == 'teacher: apache-2.0, data: mine: "all" # of them'
    assert "- teacher: apache-2.0" in card.text
    assert "not stated" not in card.text.partition("## Licences")[2]


def test_names_of_any_kind_break_neither_the_metadata_nor_the_tables(tmp_path: Path) -> None:
    names = ["---", "a|b", '"quoted": yes', "<img src=x>", "# 😀", "null", "- x", "*y*"]
    made = class_bundle(tmp_path / "--- 😀: [x]", [(0, 0, 0), (1, 1, 1)], names)
    (path,) = write_model_card(made)
    card = card_of(path)
    assert card.data.license == "unknown"
    rows = re.findall(r"^\| (\d) \| (.*?) \|  \|$", card.text, flags=re.MULTILINE)
    assert [int(place) for place, _ in rows] == list(range(8))
    assert "| \\<img src=x\\> |" in card.text


def test_a_card_that_somebody_took_over_is_left_alone(bundle: Bundle) -> None:
    (path,) = write_model_card(bundle)
    first = path.read_text(encoding="utf-8")
    assert write_model_card(bundle) == (path,)  # its own card is written anew
    mine = re.sub(r"<!--.*?-->\n", "", first) + "My words.\n"
    path.write_text(mine, encoding="utf-8")
    assert write_model_card(bundle) == ()
    assert path.read_text(encoding="utf-8") == mine


def test_a_folder_in_the_place_of_the_card_is_left_alone(bundle: Bundle) -> None:
    (bundle.path / "README.md").mkdir()
    assert write_model_card(bundle) == ()


def test_a_device_that_lacks_the_folder_for_timm_gets_no_card_for_it(bundle: Bundle) -> None:
    (bundle.path / "timm").mkdir()
    (bundle.path / "timm" / "config.json").write_text("{}", encoding="utf-8")
    whole = bundle.with_file("timm.config", bundle.path / "timm" / "config.json")
    assert [path.parent.name for path in write_model_card(whole)] == ["savannah", "timm"]
    assert "local-dir:FOLDER/timm" in card_of(bundle.path / "README.md").text
    shutil.rmtree(bundle.path / "timm")
    assert write_model_card(whole) == (bundle.path / "README.md",)
    assert not (bundle.path / "timm").exists()


def test_a_bundle_without_records_has_a_card(tmp_path: Path) -> None:
    made = class_bundle(tmp_path / "new", animals(dead_lions()))
    (path,) = write_model_card(open_bundle(made.path))
    card = card_of(path)
    assert "model-index" not in card.data.to_dict()
    assert "Nothing was judged yet" in card.text
