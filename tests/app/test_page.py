"""The served page, as clients reach it."""

import re
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

gradio = pytest.importorskip("gradio", reason="mirst[app] is not installed")

from mirst.app.explore import open_explored_model  # noqa: E402
from mirst.app.page import Explorer, render, with_message  # noqa: E402
from mirst.data import read_dataset  # noqa: E402
from mirst.errors import MirstError  # noqa: E402


@pytest.fixture(scope="module")
def explorer(finished, phantoms):
    names = ("ce-fold0-seed0", "mirst+dm-fold0-seed0")
    subjects = [open_explored_model(finished / "trials" / name / "model.safetensors") for name in names]
    return Explorer(subjects, read_dataset(phantoms))


def test_many_visitors_at_once_each_see_their_own_picture(explorer):
    """The models are shared: what one visitor gets must not depend on the others."""

    def visit(number):
        chosen = explorer.pick(number)
        return chosen.name, chosen.smallest, explorer.attack(chosen, "PGD", 5, 5)

    numbers = [0, 13, 5, 20] * 3
    alone = {number: visit(number) for number in set(numbers)}
    with ThreadPoolExecutor(6) as visitors:
        for number, (name, smallest, views) in zip(numbers, visitors.map(visit, numbers), strict=True):
            assert (name, smallest) == alone[number][:2]
            for one, other in zip(views, alone[number][2], strict=True):
                assert (one.attacked == other.attacked).all()
                assert one.probabilities == other.probabilities


def test_it_opens_with_an_image_that_all_models_predict_correctly(explorer):
    opening = explorer.opening()
    views = explorer.attack(opening, "PGD", 0, 1)
    assert {seen.predictions[0] for seen in views} == {opening.truth}


@pytest.mark.parametrize("error", [MirstError("<b>no</b> picture"), RuntimeError("secret /etc/path")])
def test_failures_become_a_sentence_and_leave_the_page(error, monkeypatch):
    told = []
    monkeypatch.setattr(gradio, "Warning", told.append)

    def fail():
        raise error

    assert with_message(fail) == gradio.skip()
    assert told[0] in ("&lt;b&gt;no&lt;/b&gt; picture", "The computation failed; try another image or another attack.")


def test_the_page_says_what_is_wrong_and_the_smallest_eps_that_was_seen(explorer):
    chosen = explorer.pick(0)._replace(name="<b>a</b>", truth="malignant", smallest=[None, 0.001 / 255])
    views = explorer.attack(chosen, "PGD", 16, 20)
    turned = [replace(seen, predictions=("benign", "malignant"), distance=7.001 / 255) for seen in views]
    html = render(chosen, turned)
    assert "&lt;b&gt;a&lt;/b&gt;, labelled malignant" in html
    assert html.count("The prediction is wrong without any attack") == 2
    assert re.findall(r"at most [\d.]+/255", html) == ["at most 7.01/255", "at most 0.01/255"]
    stays = [replace(seen, predictions=("malignant", "malignant")) for seen in views]
    html = render(chosen, stays)
    assert "wrong without any attack" not in html
    assert "none found up to 16/255" in html


def test_a_port_in_use_gets_a_sentence(finished):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        checkpoint = finished / "trials" / "ce-fold0-seed0" / "model.safetensors"
        command = [sys.executable, "-m", "mirst.cli", "app", checkpoint, "--port", str(port)]
        ended = subprocess.run(command, capture_output=True, text=True)
    assert ended.returncode == 2
    assert re.fullmatch(rf"mirst: cannot serve on 127.0.0.1:{port}; give another --port or --host\n", ended.stderr)
