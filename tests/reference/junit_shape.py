"""The JUnit XML that its readers agree on, as rules: the Ant schema (one of each of the suite's parts, in this
order)."""

from xml.etree.ElementTree import Element, fromstring

SUITE = ("name", "package", "id", "timestamp", "hostname", "tests", "failures", "errors", "skipped", "time")


def checked_suites(text: str) -> list[Element]:
    """Return the suites after checking every element, attribute and count of a JUnit document."""
    root = fromstring(text)
    assert (root.tag, root.attrib) == ("testsuites", {})
    for suite in root:
        assert suite.tag == "testsuite"
        assert tuple(suite.attrib) == SUITE
        tags = [child.tag for child in suite]
        cases = suite.findall("testcase")
        assert tags == ["properties", *["testcase"] * len(cases), "system-out", "system-err"]
        assert all(set(each.attrib) == {"name", "value"} for each in suite.find("properties") or ())
        for case in cases:
            _check_case(case)
        for kind, tag in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
            assert suite.attrib[kind] == str(sum(case.find(tag) is not None for case in cases))
        assert suite.attrib["tests"] == str(len(cases))
    return list(root)


def _check_case(case: Element) -> None:
    assert set(case.attrib) == {"name", "classname", "time"}
    assert len(case) <= 1
    for outcome in case:
        assert outcome.tag in ("failure", "error", "skipped")
        assert set(outcome.attrib) == ({"message"} if outcome.tag == "skipped" else {"message", "type"})


def outcomes(suite: Element) -> dict[str, tuple[str, str]]:
    """Return {case: (what became of it, its type)}; ("passed", "") where nothing did."""
    found = {}
    for case in suite.findall("testcase"):
        told = case[0] if len(case) else None
        result = ("passed", "") if told is None else (told.tag, told.attrib.get("type", ""))
        found[f"{case.attrib['classname'].rpartition('.')[2]}.{case.attrib['name']}"] = result
    return found
