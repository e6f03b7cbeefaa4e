import re
import shlex
import signal
import sys
from pathlib import Path

import pytest

from tests.commands import started

PAGE = Path(__file__).parents[2] / "docs" / "from-fit-to-report.md"
BLOCKS = re.findall(r"```(python|sh)\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


def in_shell(line, mirst):
    """Run a `mirst` command; the explorer in a process of its own until it serves."""
    arguments = shlex.split(line)[1:]
    if arguments[0] != "app":
        code, printed, _ = mirst(*arguments)
        assert code == 0
        return printed
    pytest.importorskip("gradio", reason="mirst[app] is not installed")
    process = started(*arguments)
    told = process.stdout.readline()
    process.send_signal(signal.SIGTERM)
    process.communicate()
    return told


def test_every_block_runs(mirst, tmp_path, monkeypatch, capsys):
    """As printed, but for the number of epochs."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    names, shown, printed = {}, [], ""
    assert [kind for kind, _ in BLOCKS].count("sh") == 4
    for kind, text in BLOCKS:
        short = text.replace("epochs=20", "epochs=2").replace("epochs: 20", "epochs: 1")
        if kind == "python":
            exec(short, names)
            printed += capsys.readouterr().out
        else:
            shown += [in_shell(line, mirst) for line in short.splitlines()]
    sys.modules.pop("lesion_net", None)
    one, many, exported, attacked, served, own, ran, reported = shown
    assert re.fullmatch(r"lesions/benign/phantom-001.png: \w+ \(probability of malignant 0\.\d{3}\)\n", one)
    assert many.startswith("80 images: ")
    assert len(Path("answers.csv").read_text().splitlines()) == 81
    assert exported == "Exported: model.pt2\n"
    assert re.search(r"fgsm +0\.0196", attacked)
    assert served.startswith("Explorer: http")
    assert own.startswith("lesions/benign/phantom-001.png: ")
    assert "Report: results/report.html" in ran
    assert reported == "Report: results/report.html\n"
    table = Path("evaluation/table.md").read_text()
    assert [line.split(" | ")[0] for line in table.splitlines()[2:6]] == ["| none", "| fgsm", "| pgd", "| apgd"]
    assert table.rstrip() in printed
