import pytest
import torch
import typer

from mirst.cli.commands import app
from mirst.errors import MirstError
from mirst.nn.device import DEVICES, VARIABLE, default_device, require_float64
from mirst.study import Local, StudySpec


@pytest.mark.parametrize("gpu", [False, True])
def test_the_named_device_is_taken_if_it_is_there(monkeypatch, gpu):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: gpu)
    monkeypatch.delenv(VARIABLE, raising=False)
    assert default_device().type == ("cuda" if gpu else "cpu")
    there = {"auto": "cuda", "cpu": "cpu", "cuda": "cuda", "mps": "mps"} if gpu else {"auto": "cpu", "cpu": "cpu"}
    for name in DEVICES:
        monkeypatch.setenv(VARIABLE, name)
        if name in there:
            assert default_device().type == there[name]
            assert Local().parallel(StudySpec()) == 1 or there[name] == "cpu"
        else:
            with pytest.raises(MirstError, match=f"torch sees no {name} device on this machine; choose cpu or auto"):
                default_device()


def test_an_absent_or_unknown_device_is_a_sentence(mirst, monkeypatch):
    monkeypatch.setenv(VARIABLE, "auto")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for name, words in (
        ("cuda", "torch sees no cuda device"),
        ("gpu", "the device is gpu; choose one of auto, cpu, cuda, mps"),
    ):
        code, out, err = mirst("run", "busi-small", "--device", name)
        assert (code, out) == (2, "")
        assert err.startswith(f"mirst: {words}")
        assert err.count("\n") == 1


def test_every_command_that_computes_has_the_option():
    def names(group, before=""):
        for name, command in group.commands.items():
            if hasattr(command, "commands"):
                yield from names(command, f"{name} ")
            elif any("--device" in option.opts for option in command.params):
                yield before + name

    assert set(names(typer.main.get_command(app))) == {
        "run",
        "demo",
        "train",
        "evaluate",
        "validate",
        "predict",
        "certify",
        "probe",
        "pretrain simclr",
        "pretrain supervised",
        "app",
        "figure attacks",
        "figure residuals",
        "ensemble",
        "dossier",
        "verify",
    }


def test_what_needs_64_bit_floats_is_refused_on_apples_gpu():
    require_float64(torch.device("cuda"))
    with pytest.raises(MirstError, match="64-bit floats, which mps lacks; use --device cpu"):
        require_float64(torch.device("mps"))
