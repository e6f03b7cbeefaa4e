"""`.pth` files: only the pickle steps of a plain state dict are allowed, checked before torch reads the file.

With `weights_only=True` torch runs no code of a file, but a small file can still demand any amount of time and
memory. The steps of a plain state dict cannot.
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
"""The names that a state dict of dense tensors uses."""
PUT, GET = ("PUT", "BINPUT", "LONG_BINPUT"), ("GET", "BINGET", "LONG_BINGET")
"""Steps that store an object and fetch it again; torch supports no others."""
MAX_STEPS = 2**20
"""Of a pickle. A ResNet-50 has eleven thousand."""
MAX_REPEATS = 16
"""Tuples that are fetched again. Each may double the time that it takes to hash a tuple."""
LEGACY_PICKLES = 5
"""Of the format before zip: magic number, version, system, object, keys."""


def require_plain_state_dict(path: Path) -> None:
    """Check a file before `torch.load`.

    Raises:
        OSError: it cannot be read.
        ValueError: it is damaged, a Git LFS pointer, or contains more than a plain state dict.
    """
    require_content(path)
    with path.open("rb") as file:
        if zipfile.is_zipfile(file):
            with zipfile.ZipFile(file) as archive, _open_pickle(archive, path) as pickle:
                _require_plain_steps(pickle)
        else:
            file.seek(0)
            for _ in range(LEGACY_PICKLES):
                _require_plain_steps(file)


def _open_pickle(archive: zipfile.ZipFile, path: Path) -> IO[bytes]:
    """The pickle in a zip file with uncompressed members, each stored once."""
    members = archive.infolist()
    pickles = [member for member in members if member.filename.endswith("data.pkl")]
    packed = any(member.compress_type != zipfile.ZIP_STORED for member in members)
    if packed or sum(member.file_size for member in members) > path.stat().st_size:
        raise ValueError("its members are compressed or overlap, which torch.save does not do")
    if len({member.filename for member in members}) < len(members) or len(pickles) != 1:
        raise ValueError("it must contain exactly one data.pkl, and no member twice")
    return archive.open(pickles[0])


def _require_plain_steps(pickle: IO[bytes]) -> None:
    """Raise `ValueError` for steps that build more than nested mappings of dense tensors.

    A mapping that is built from a tensor, or takes one for its state, would iterate over it, and a
    tensor of stride 0 has no end.
    """
    before, mappings, tuples, repeats = "", set[object](), set[object](), 0
    for count, (step, argument, _) in enumerate(pickletools.genops(pickle)):
        if count > MAX_STEPS:
            raise ValueError(f"its pickle takes more than {MAX_STEPS} steps")
        if before == MAPPING and step.name not in (*PUT, "EMPTY_TUPLE"):
            raise ValueError("it builds a mapping from another object")
        if step.name == "GLOBAL":
            if argument not in PLAIN:
                raise ValueError(f"it refers to {argument}, which a plain state dict does not contain")
            before = str(argument)
        elif step.name == "BUILD" and before not in ("SETITEM", "SETITEMS"):
            raise ValueError("it gives an object a state that is not a mapping")
        elif step.name in PUT:
            {MAPPING: mappings, "TUPLE": tuples}.get(before, set()).add(argument)
        elif step.name in GET:
            repeats += argument in tuples
            before = MAPPING if argument in mappings else step.name
        else:
            before = "TUPLE" if step.name.startswith("TUPLE") else step.name
        if repeats > MAX_REPEATS:
            raise ValueError(f"it refers to more than {MAX_REPEATS} tuples repeatedly")
