"""Real signals for real commands, at moments that are known and not timed."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mirst.cli.stop import Stopped, stoppable, stops_in_order
from mirst.errors import MirstError

MAIN = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); import mirst.cli; mirst.cli.main()"
"""SIGINT is ignored in a background job, and so it would be here."""
SENTENCES = {"Stopped.", "Stopped; run the same command again to resume."}
CODES = {signal.SIGINT: 130, signal.SIGTERM: 143}


@pytest.fixture
def start():
    processes = []

    def begin(*command):
        process = subprocess.Popen(
            [sys.executable, "-c", MAIN, *map(str, command)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        processes.append(process)
        return process

    yield begin
    for process in processes:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def wait_until(moment, process):
    while not moment() and process.poll() is None:
        time.sleep(0.002)
    assert process.poll() is None


def handles_signals(process):
    status = Path(f"/proc/{process.pid}/status").read_text()
    caught = int(next(line for line in status.splitlines() if line.startswith("SigCgt")).split()[1], 16)
    return bool(caught & 1 << (signal.SIGTERM - 1))


def workers(process):
    """Of the command, as soon as they exist: children of its server."""
    return [worker for child in children(process.pid) if is_server(child) for worker in children(child)]


def children(pid):
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


def is_server(pid):
    return b"multiprocessing.forkserver" in Path(f"/proc/{pid}/cmdline").read_bytes()


@pytest.mark.parametrize("sent", CODES)
@pytest.mark.parametrize(
    "command",
    [
        ["--help"],
        ["run", "{study}", "--data", "{data}", "--out", "{out}"],
        ["evaluate", "{out}", "--suite", "standard"],
        ["pretrain", "simclr", "--data", "{data}", "--out", "{out}/b.safetensors"],
        ["probe", "--data", "{data}"],
        ["predict", "{out}", "{data}"],
        ["demo", "--out", "{out}"],
    ],
    ids=lambda command: command[0],
)
def test_a_signal_while_a_command_is_imported(start, small_yaml, phantoms, tmp_path, command, sent):
    places = {"study": small_yaml, "data": phantoms, "out": tmp_path / "out"}
    process = start(*(part.format(**places) for part in command))
    wait_until(lambda: handles_signals(process), process)
    os.killpg(process.pid, sent)
    _, err = process.communicate(timeout=60)
    assert err.strip() in SENTENCES
    assert process.returncode == CODES[sent]
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("sent", "group"), [(signal.SIGINT, True), (signal.SIGINT, False), (signal.SIGTERM, True)])
def test_a_signal_while_workers_start(start, small_yaml, phantoms, tmp_path, sent, group):
    """A terminal sends it to all processes; the first worker used to die with a traceback."""
    process = start("run", small_yaml, "--data", phantoms, "--out", tmp_path / "out", "--jobs", 2)
    wait_until(lambda: workers(process), process)
    (os.killpg if group else os.kill)(process.pid, sent)
    _, err = process.communicate(timeout=120)
    assert err.strip() == "Stopped; run the same command again to resume."
    assert process.returncode == CODES[sent]


def test_a_second_signal_kills_workers_that_start(start, small_yaml, phantoms, tmp_path):
    process = start("run", small_yaml, "--data", phantoms, "--out", tmp_path / "out", "--jobs", 1)
    wait_until(lambda: workers(process), process)
    started = workers(process)
    for _ in range(2):
        os.killpg(process.pid, signal.SIGINT)
        time.sleep(0.3)
    _, err = process.communicate(timeout=60)
    assert err.strip() == "Stopped; run the same command again to resume."
    assert process.returncode == 130
    assert not any(Path(f"/proc/{pid}/cmdline").exists() for pid in started)


def test_a_signal_after_the_sentence_changes_nothing(start, small_yaml, phantoms, tmp_path):
    process = start("run", small_yaml, "--data", phantoms, "--out", tmp_path / "out")
    wait_until(lambda: handles_signals(process), process)
    process.send_signal(signal.SIGTERM)
    assert process.stderr.readline().strip() in SENTENCES
    while process.poll() is None:
        process.send_signal(signal.SIGTERM)
        time.sleep(0.01)
    assert process.stderr.read() == ""
    assert process.returncode == 143


@pytest.mark.parametrize(
    "block",
    [
        lambda: None,
        lambda: (_ for _ in ()).throw(ImportError("numpy._core.multiarray failed to import")),
        lambda: sys.exit(130),
    ],
    ids=["the interrupt", "an import that fails for it", "what typer makes of it"],
)
def test_whatever_a_signal_leads_to_is_one_sentence(block, capsys):
    before = [signal.getsignal(number) for number in CODES]
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(SystemExit, match="130"):
            _interrupted(block)
        assert capsys.readouterr().err == "Stopped.\n"
    finally:
        for number, handler in zip(CODES, before, strict=True):
            signal.signal(number, handler)


def _interrupted(block):
    with stoppable():
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            block()
            raise


@pytest.mark.parametrize("error", [MirstError("the disk is full"), SystemExit(2), ZeroDivisionError()])
def test_without_a_signal_errors_stay_what_they_are(error):
    before = [signal.getsignal(number) for number in CODES]
    with pytest.raises(type(error)), stoppable():
        raise error
    assert [signal.getsignal(number) for number in CODES] == before


def test_how_to_go_on_is_said():
    with pytest.raises(Stopped, match=r"^Stopped; it is saved\.$"), stops_in_order("it is saved"):
        raise KeyboardInterrupt


SWALLOWED = {
    "a finaliser": """
class Final:
    def __del__(self):
        signal.raise_signal({sent})
final = Final()
del final
""",
    "a callback of a weak reference": """
import weakref
class One: pass
one = One()
reference = weakref.ref(one, lambda _: signal.raise_signal({sent}))
del one
""",
    "a finaliser, twice": """
class Final:
    def __init__(self, more): self.more = more
    def __del__(self):
        signal.raise_signal({sent})
final = Final(None)
del final
final = Final(None)
del final
""",
    "other code": """
try:
    signal.raise_signal({sent})
except BaseException:
    pass
if {ends}:
    raise SystemExit(0)
""",
}


@pytest.mark.parametrize("sent", CODES)
@pytest.mark.parametrize("ends", [True, False])
@pytest.mark.parametrize("where", SWALLOWED)
def test_a_signal_that_is_swallowed_still_ends_the_command(where, ends, sent):
    """Python prints and drops what is raised in finalisers and callbacks."""
    block = SWALLOWED[where].format(sent=int(sent), ends=ends)
    waits = "" if where == "other code" or ends else "time.sleep(60); print('went on')"
    program = (
        "import signal, time\nfrom mirst.cli.stop import stoppable\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\nwith stoppable():\n"
        + "".join(f"    {line}\n" for line in [*block.splitlines(), waits])
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (CODES[sent], "", "Stopped.\n")


def test_other_unraisable_errors_are_printed_as_before():
    program = (
        "from mirst.cli.stop import stoppable\nclass Final:\n    def __del__(self): 1 / 0\n"
        "with stoppable():\n    final = Final()\n    del final\n"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "ZeroDivisionError" in ended.stderr
