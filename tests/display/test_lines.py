import io

from rich.console import Console

from mirst.display.lines import PLAIN_EVERY, Lines


def test_stages_have_bars_on_a_terminal_and_sparse_lines_elsewhere(monkeypatch):
    now = [0.0]
    monkeypatch.setattr("mirst.display.lines.time.monotonic", lambda: now[0])
    stream = io.StringIO()
    with Lines(Console(file=stream)) as display:
        display.stage("reading images", 1, 3)
        assert stream.getvalue() == ""
        now[0] = PLAIN_EVERY + 1
        display.stage("reading images", 2, 3)
        display.stage("reading images", 3, 3)
    assert stream.getvalue() == "reading images: 2 of 3\n"
    with Lines(Console(file=io.StringIO(), force_terminal=True)) as display:
        display.stage("reading images", 1, 3)
        assert [(task.description, task.completed, task.total) for task in display.bars.tasks] == [
            ("reading images", 1, 3)
        ]
        display.stage("reading images", 3, 3)
        assert display.bars.tasks == []
