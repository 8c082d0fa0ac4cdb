"""A progress that adds a note tells everything else unchanged."""

from edgedistill_deploy.progress import noted, silent


def test_a_note_is_added_where_there_is_none() -> None:
    seen: list[tuple[int, int, str]] = []

    def keep(done: int, total: int, note: str = "") -> None:
        seen.append((done, total, note))

    report = noted(keep, "images")
    report(1, 4)
    report(2, 4, "of its own")
    assert seen == [(1, 4, "images"), (2, 4, "of its own")]
    noted(silent, "images")(1, 4)
