"""What a person sees while something runs: how far it is, in a narrow terminal too."""

import pytest

from zhiling.console import progress

NOTE = "loss 6.025, validation 6.054, 14,397 tokens/s, MFU 6%"


@pytest.mark.parametrize("columns", [60, 80, 200])
def test_counts_and_times_are_whole_however_narrow_the_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], columns: int
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # so that it counts as a terminal
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", str(columns))
    with progress("instruct", 12000) as bar:
        bar(7000, NOTE)
    said = capsys.readouterr().err
    assert "7000/12000" in said and "loss 6.025" in said and "…" not in said
    assert "-:--:--" in said or "0:00:0" in said


def test_a_log_gets_a_line_at_each_tenth(capsys: pytest.CaptureFixture[str]) -> None:
    with progress("instruct", 20) as bar:
        for _ in range(20):
            bar(1, NOTE)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 10 and lines[0].startswith("instruct: 2/20  0 s  loss 6.025")
