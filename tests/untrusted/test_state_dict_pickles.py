"""Files that `weights_only=True` alone would read for hours, or into all of the memory."""

import io
import struct
import zipfile

import pytest
import torch
from torch import nn

from mirst.errors import MirstError
from mirst.nn import build_model, load_backbone
from mirst.untrusted.state_dict_pickles import MAX_REPEATS, require_plain_state_dict

ENDLESS = (
    b"ctorch._utils\n_rebuild_tensor_v2\n("  # of stride 0, from a storage of one number
    b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x01tQ"
    b"K\x00\x8a\x06\x00\x00\x00\x00\x00\x01K\x02\x86K\x00K\x00\x86\x89ccollections\nOrderedDict\n)RtR"
)


def archive(path, data, compression=zipfile.ZIP_STORED, **more):
    """A file as `torch.save` writes it, around a pickle of our own."""
    members = {"data.pkl": data, "byteorder": b"little", "data/0": b"\0" * 4, "version": b"3\n"} | more
    with zipfile.ZipFile(path, "w", compression) as file:
        for name, content in members.items():
            file.writestr(f"archive/{name}", content)
    return path


def refusal(path):
    with pytest.raises(MirstError) as caught:
        load_backbone(build_model("resnet_tiny", 1, 2), path)
    assert "cannot be read as a state dict" in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


def nested_tuples(levels):
    """A key whose hash takes two to the power of `levels` steps."""
    return b"K\x01\x85q\x00" + b"".join(b"h%c\x86q%c" % (level, level + 1) for level in range(levels))


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"\x80\x02cos\nsystem\nX\x02\x00\x00\x00ls\x85R.", "refers to os system"),
        (b"\x80\x02ccollections\nOrderedDict\n" + ENDLESS + b"\x85R.", "builds a mapping from another object"),
        (b"\x80\x02ccollections\nOrderedDict\n)R" + ENDLESS + b"b.", "a state that is not a mapping"),
        (
            b"\x80\x02ccollections\nOrderedDict\nq\x00)Rh\x00" + ENDLESS + b"\x85R.",
            "builds a mapping from another object",
        ),
        (b"\x80\x02cbuiltins\nset\n" + ENDLESS + b"\x85R.", "refers to builtins set"),
        (b"\x80\x02cbuiltins\nbytearray\n\x8a\x05\x00\x00\x00\x00\x10\x85R.", "refers to builtins bytearray"),
        (b"\x80\x02ctorch\nFloatTensor\n\x8a\x05\x00\x00\x00\x00\x10\x85R.", "refers to torch FloatTensor"),
        (b"\x80\x02ctorch._utils\n_rebuild_sparse_tensor\n.", "refers to torch._utils _rebuild_sparse_tensor"),
        (b"\x80\x02ctorch._utils\n_rebuild_qtensor\n.", "refers to torch._utils _rebuild_qtensor"),
        (
            b"\x80\x02ctorch._utils\n_rebuild_device_tensor_from_cpu_tensor\n.",
            "which a plain state dict does not contain",
        ),
        (b"\x80\x02}" + nested_tuples(40) + b"K\x01s.", f"more than {MAX_REPEATS} tuples repeatedly"),
        (b"\x80\x02" + b"]0" * 2**20 + b".", "steps"),
        (b"\x80\x02}X\xff\xff\xff\x7f", ""),
        (b"", ""),
    ],
)
def test_what_no_state_dict_needs_is_refused_before_torch_reads_it(tmp_path, data, words):
    assert words in refusal(archive(tmp_path / "w.pth", data))


def test_what_a_tensor_declares_is_not_allocated(tmp_path):
    huge = ENDLESS.replace(b"cpuK\x01t", b"cpu\x8a\x05\x00\x00\x00\x00\x10t")
    beyond = huge.replace(b"K\x00K\x00\x86\x89", b"K\x02K\x01\x86\x89")
    for tensor, words in ((ENDLESS, "lacks"), (huge, "lacks"), (beyond, "cannot be read as a state dict")):
        archive(tmp_path / "w.pth", b"\x80\x02}X\x01\x00\x00\x00a" + tensor + b"s.")
        with pytest.raises(MirstError, match=words):
            load_backbone(build_model("resnet_tiny", 1, 2), tmp_path / "w.pth")


def test_members_that_are_packed_doubled_or_overlap_are_refused(tmp_path):
    plain = b"\x80\x02}."
    packed = archive(tmp_path / "packed.pth", plain, zipfile.ZIP_DEFLATED, **{"data/1": b"\0" * 2**24})
    assert "compressed or overlap" in refusal(packed)
    assert "one data.pkl" in refusal(archive(tmp_path / "two.pth", plain, **{"x/data.pkl": plain}))
    whole = bytearray(archive(tmp_path / "overlap.pth", plain).read_bytes())
    at = whole.rindex(b"PK\x01\x02")
    whole[at + 20 : at + 28] = struct.pack("<II", 2**30, 2**30)
    (tmp_path / "overlap.pth").write_bytes(whole)
    assert "compressed or overlap" in refusal(tmp_path / "overlap.pth")


def test_the_format_before_zip_is_judged_too(tmp_path):
    buffer = io.BytesIO()
    torch.save({"a": torch.zeros(10)}, buffer, _use_new_zipfile_serialization=False)
    sound = buffer.getvalue()
    (tmp_path / "huge.pth").write_bytes(sound.replace(b"K\nNt", b"\x8a\x05\x00\x00\x00\x00\x10Nt"))
    assert (tmp_path / "huge.pth").read_bytes() != sound
    refusal(tmp_path / "huge.pth")
    (tmp_path / "evil.pth").write_bytes(sound.replace(b"ctorch\nFloatStorage\n", b"ctorch\nFloatTensor\n"))
    assert "refers to torch FloatTensor" in refusal(tmp_path / "evil.pth")
    (tmp_path / "cut.pth").write_bytes(sound[:-8])
    refusal(tmp_path / "cut.pth")


@pytest.mark.parametrize("new", [True, False])
def test_sound_files_of_every_kind_pass(tmp_path, new):
    """Wrapped, half, as parameters, with the state of an optimizer, views of one storage, and contiguous or not."""
    model = build_model("resnet_tiny", 1, 2)
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.rand(2, 1, 32, 32)).sum().backward()
    optimizer.step()
    state = model.network.state_dict()
    for number, content in enumerate(
        (
            state,
            {"state_dict": state, "optimizer": optimizer.state_dict(), "epoch": 3},
            {key: value.half() for key, value in state.items()},
            {key: nn.Parameter(value) if value.is_floating_point() else value for key, value in state.items()},
            {key: value.t() if value.ndim == 2 else value for key, value in state.items()},
        )
    ):
        path = tmp_path / f"{number}.pth"
        torch.save(content, path, _use_new_zipfile_serialization=new)
        require_plain_state_dict(path)
        loaded = load_backbone(build_model("resnet_tiny", 1, 2), path)
        assert loaded.matched == loaded.of


def test_tensors_that_are_no_plain_numbers_do_not_fit(tmp_path):
    state = build_model("resnet_tiny", 1, 2).network.state_dict()
    for number, value in enumerate((state["conv1.weight"].to(torch.complex64), state["conv1.weight"].to_sparse())):
        torch.save(state | {"conv1.weight": value}, tmp_path / f"{number}.pth")
        with pytest.raises(MirstError, match=r"ComplexFloatStorage|_rebuild_sparse_tensor"):
            load_backbone(build_model("resnet_tiny", 1, 2), tmp_path / f"{number}.pth")
    torch.save({1: torch.zeros(2)}, tmp_path / "keys.pth")
    with pytest.raises(MirstError, match="not contain a plain state dict"):
        load_backbone(build_model("resnet_tiny", 1, 2), tmp_path / "keys.pth")
