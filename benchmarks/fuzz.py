"""`python -m benchmarks.fuzz 20000`: malformed images, tables, npz and DICOM files through the readers.

Each is a sound file of its kind with bytes flipped, cut, repeated or inserted, read as part of a data
set. Allowed is a data set or one sentence; a traceback, a hang, a warning or a file written is a
finding, kept in `fuzz-findings/`.
"""

import csv
import io
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
import openpyxl
from PIL import Image
from tests.data.test_more_readers import RAMP, write_dicom

from mirst.data import load_images, read_dataset
from mirst.errors import MirstError

SECONDS, BYTES = 20, 4 * 2**30
"""A reader that takes longer hangs; one that asks for more memory would take a small machine down."""


def seeds(folder: Path) -> dict[str, bytes]:
    """One sound file of every kind that the readers take."""
    pixels = np.random.default_rng(0).integers(0, 256, (24, 30), dtype=np.uint8)
    files = {}
    for suffix, mode in ((".png", "L"), (".png", "RGBA"), (".png", "P"), (".jpg", "L"), (".bmp", "RGB"), (".tif", "L")):
        buffer = io.BytesIO()
        Image.fromarray(pixels).convert(mode).save(buffer, {".jpg": "jpeg", ".tif": "tiff"}.get(suffix, suffix[1:]))
        files[f"image-{mode}{suffix}"] = buffer.getvalue()
    buffer = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint16) * 257).save(buffer, "png")
    files["image-16.png"] = buffer.getvalue()
    arrays = {f"{split}_images": np.stack([pixels] * 2) for split in ("train", "val", "test")}
    labels = {f"{split}_labels": np.array([[0], [1]], dtype=np.uint8) for split in ("train", "val", "test")}
    np.savez(folder / "a.npz", **arrays, **labels)
    files["set.npz"] = (folder / "a.npz").read_bytes()
    write_dicom(folder / "a.dcm", RAMP, WindowCenter=100, WindowWidth=200)
    write_dicom(folder / "b.dcm", np.stack([RAMP] * 3))
    files |= {"still.dcm": (folder / "a.dcm").read_bytes(), "clip.dcm": (folder / "b.dcm").read_bytes()}
    table = io.StringIO()
    rows = [("path", "label", "group", "source"), ("good.png", "a", "g", "s"), ("good2.png", "b", "", "")]
    csv.writer(table).writerows(rows)
    files["list.csv"] = table.getvalue().encode()
    book = openpyxl.Workbook()
    for row in [
        ("CaseID", "Image_filename", "Classification"),
        (1, "good.png", "benign"),
        (2, "good2.png", "malignant"),
    ]:
        book.active.append(row)
    book.save(folder / "a.xlsx")
    files["cases.xlsx"] = (folder / "a.xlsx").read_bytes()
    return files


def mutated(content: bytes, rng: random.Random) -> bytes:
    data = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 4, 16))):
        at = rng.randrange(len(data) + 1) if rng.random() < 0.5 else min(len(data), rng.randrange(200))
        action = rng.randrange(5)
        if action == 0 and at < len(data):
            data[at] ^= 1 << rng.randrange(8)
        elif action == 1:
            del data[at : at + rng.choice((1, 4, 100, 10_000))]
        elif action == 2:
            data[at:at] = rng.choice((b"\0" * 8, b"\xff" * 4, b'"', b",,\n", b"../" * 3, rng.randbytes(8)))
        elif action == 3:
            data[at:at] = data[at : at + 40] * 3
        elif at + 4 <= len(data):
            data[at : at + 4] = rng.choice((b"\xff\xff\xff\x7f", b"\0\0\0\0", b"\x80\0\0\0"))
    return bytes(data)


def layout(root: Path, name: str, content: bytes, sound: bytes) -> Path:
    """Put the file where a reader meets it; returns what to read."""
    if name == "list.csv" or name == "cases.xlsx":
        for good in ("good.png", "good2.png"):
            (root / good).write_bytes(sound)
        (root / name).write_bytes(content)
        return root / name if name == "list.csv" else root
    if name == "set.npz":
        (root / name).write_bytes(content)
        return root / name
    for label in ("benign", "malignant"):
        (root / label).mkdir()
        (root / label / "sound.png").write_bytes(sound)
    (root / "benign" / name).write_bytes(content)
    return root


def attempt(path: Path) -> str:
    try:
        records = read_dataset(path)
        load_images([record.file for record in records], 16)
    except MirstError as error:
        return "refused" if len(str(error).splitlines()) == 1 else "more than a sentence"
    return "read"


def main(count: int) -> int:
    rng = random.Random(0)
    outcomes: Counter[tuple[str, str]] = Counter()
    findings = Path("fuzz-findings")
    slowest = 0.0
    signal.signal(signal.SIGALRM, lambda *_: (_ for _ in ()).throw(TimeoutError("hangs")))
    resource.setrlimit(resource.RLIMIT_AS, (BYTES, BYTES))
    warnings.simplefilter("error")
    with tempfile.TemporaryDirectory() as temporary:
        base = Path(temporary)
        files = seeds(base)
        names = sorted(files)
        for number in range(count):
            name = names[number % len(names)]
            content = mutated(files[name], rng)
            root = base / "set"
            root.mkdir()
            path = layout(root, name, content, files["image-L.png"])
            before = sorted(p for p in base.rglob("*"))
            start = time.monotonic()
            signal.alarm(SECONDS)
            try:
                outcome = attempt(path)
            except Exception as error:  # noqa: BLE001 (whatever comes is what is looked for)
                outcome = f"FOUND {type(error).__name__}: {str(error)[:80]} {type(error.__cause__).__name__}"
            signal.alarm(0)
            slowest = max(slowest, time.monotonic() - start)
            if sorted(p for p in base.rglob("*")) != before:
                outcome = "FOUND files written"
            if outcome.startswith(("FOUND", "more")):
                findings.mkdir(exist_ok=True)
                (findings / f"{number}-{name}").write_bytes(content)
            outcomes[name, outcome] += 1
            shutil.rmtree(root)
    for (name, outcome), times in sorted(outcomes.items()):
        print(f"{times:7} {name:18} {outcome}")
    bad = sum(times for (_, outcome), times in outcomes.items() if outcome.startswith(("FOUND", "more")))
    print(f"{count} files, {bad} findings, slowest {slowest:.2f} s")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 20_000))
