"""The served page, as clients reach it."""

import re
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
from PIL import Image

gradio = pytest.importorskip("gradio", reason="mirst[app] is not installed")

from mirst.app.explore import open_subject  # noqa: E402
from mirst.app.page import Explorer, _plain, _said  # noqa: E402
from mirst.data import read_dataset  # noqa: E402
from mirst.errors import MirstError  # noqa: E402


@pytest.fixture(scope="module")
def explorer(finished, phantoms):
    names = ("ce-fold0-seed0", "mirst+dm-fold0-seed0")
    subjects = [open_subject(finished / "trials" / name / "model.safetensors") for name in names]
    return Explorer(subjects, read_dataset(phantoms))


def test_many_visitors_at_once_each_see_their_own_picture(explorer):
    """The models are shared: what one visitor gets must not depend on the others."""

    def visit(number):
        chosen = explorer.pick(number)
        return chosen.name, chosen.smallest, explorer.show(chosen, "PGD", 5, 5)

    numbers = [0, 13, 5, 20] * 3
    alone = {number: visit(number) for number in set(numbers)}
    with ThreadPoolExecutor(6) as visitors:
        for number, (name, smallest, views) in zip(numbers, visitors.map(visit, numbers), strict=True):
            assert (name, smallest) == alone[number][:2]
            for one, other in zip(views, alone[number][2], strict=True):
                assert (one.attacked == other.attacked).all()
                assert one.probabilities == other.probabilities


def test_an_upload_is_gone_once_it_is_seen(explorer, tmp_path):
    sent = tmp_path / "sent.png"
    Image.new("L", (50, 40), 90).save(sent)
    chosen = explorer.upload(str(sent))
    assert (chosen.name, chosen.image.size, sent.exists()) == ("The picture you sent", (50, 40), False)


@pytest.mark.parametrize("error", [MirstError("<b>no</b> picture"), RuntimeError("secret /etc/path")])
def test_failures_become_a_sentence_and_leave_the_page(error, monkeypatch):
    told = []
    monkeypatch.setattr(gradio, "Warning", told.append)

    def fail():
        raise error

    assert _said(fail, 3) == [gradio.skip()] * 3
    assert told[0] in ("&lt;b&gt;no&lt;/b&gt; picture", "That did not work; try another picture or another attack.")


def test_names_mean_nothing_to_markdown():
    assert _plain("a_b [x](y) <i>") == "a&#95;b &#91;x&#93;&#40;y&#41; &#60;i&#62;"


def test_a_port_in_use_gets_a_sentence(finished):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        checkpoint = finished / "trials" / "ce-fold0-seed0" / "model.safetensors"
        command = [sys.executable, "-m", "mirst.cli", "app", checkpoint, "--port", str(port)]
        ended = subprocess.run(command, capture_output=True, text=True)
    assert ended.returncode == 2
    assert re.fullmatch(rf"mirst: cannot serve on 127.0.0.1:{port}; name another --port or --host\n", ended.stderr)
