"""`.pth` files of any origin: what torch's reader would make of them, looked at before it does.

Read with `weights_only=True` a file runs no code, but a small one can still ask for any amount of time
and memory. What a plain state dict is made of cannot.
"""

import pickletools
import zipfile
from pathlib import Path
from typing import IO

from mirst.untrusted.lfs_pointers import require_content

MAPPING = "collections OrderedDict"
KINDS = ("Float", "Double", "Half", "BFloat16", "Long", "Int", "Short", "Char", "Byte", "Bool")
PLAIN = {
    MAPPING,
    "torch._utils _rebuild_tensor_v2",
    "torch._utils _rebuild_parameter",
    *(f"torch {kind}Storage" for kind in KINDS),
}
"""What a state dict of dense tensors names."""
PUT, GET = ("PUT", "BINPUT", "LONG_BINPUT"), ("GET", "BINGET", "LONG_BINGET")
"""Steps that remember an object, and fetch it again; torch knows no others."""
MAX_STEPS = 2**20
"""Of a pickle; a ResNet-50 takes eleven thousand."""
MAX_REPEATS = 16
"""Tuples used a second time: each at most doubles the time that hashing one takes."""
LEGACY_PICKLES = 5
"""Of the format before zip: magic number, version, system, object, keys."""


def require_plain_state_dict(path: Path) -> None:
    """Judge a file before `torch.load`.

    Raises:
        OSError: it cannot be read.
        ValueError: it is damaged, a Git LFS pointer, or holds more than a plain state dict.
    """
    require_content(path)
    with path.open("rb") as file:
        if zipfile.is_zipfile(file):
            with zipfile.ZipFile(file) as archive, _object(archive, path) as pickle:
                _judge(pickle)
        else:
            file.seek(0)
            for _ in range(LEGACY_PICKLES):
                _judge(file)


def _object(archive: zipfile.ZipFile, path: Path) -> IO[bytes]:
    """The pickle in a zip file whose members lie in it as they are, each once."""
    members = archive.infolist()
    pickles = [member for member in members if member.filename.endswith("data.pkl")]
    packed = any(member.compress_type != zipfile.ZIP_STORED for member in members)
    if packed or sum(member.file_size for member in members) > path.stat().st_size:
        raise ValueError("its members are compressed or overlap, which torch.save does not do")
    if len({member.filename for member in members}) < len(members) or len(pickles) != 1:
        raise ValueError("it does not hold one data.pkl, and each member once")
    return archive.open(pickles[0])


def _judge(pickle: IO[bytes]) -> None:
    """Raise `ValueError` for steps that build more than nested mappings of dense tensors.

    A mapping that is built from a tensor, or takes one for its state, would iterate over it, and a
    tensor of stride 0 has no end.
    """
    before, mappings, tuples, repeats = "", set[object](), set[object](), 0
    for count, (step, argument, _) in enumerate(pickletools.genops(pickle)):
        if count > MAX_STEPS:
            raise ValueError(f"its pickle takes more than {MAX_STEPS} steps")
        if before == MAPPING and step.name not in (*PUT, "EMPTY_TUPLE"):
            raise ValueError("it builds a mapping from something")
        if step.name == "GLOBAL":
            if argument not in PLAIN:
                raise ValueError(f"it names {argument}, which no plain state dict does")
            before = str(argument)
        elif step.name == "BUILD" and before not in ("SETITEM", "SETITEMS"):
            raise ValueError("it gives an object a state that is no mapping")
        elif step.name in PUT:
            {MAPPING: mappings, "TUPLE": tuples}.get(before, set()).add(argument)
        elif step.name in GET:
            repeats += argument in tuples
            before = MAPPING if argument in mappings else step.name
        else:
            before = "TUPLE" if step.name.startswith("TUPLE") else step.name
        if repeats > MAX_REPEATS:
            raise ValueError(f"it uses more than {MAX_REPEATS} tuples again")
