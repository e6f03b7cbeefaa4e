"""`python -m benchmarks.fuzz 20000`: malformed images, tables, arrays, DICOM files, models and studies.

Every element of DICOM headers is changed in turn; Hypothesis overwrites, cuts, repeats and inserts bytes of
sound files of every kind, each read where it belongs.
Allowed is a result or one sentence; a traceback, a hang, a warning or a file written is a finding,
shrunk to its smallest form and printed.
"""

import csv
import io
import math
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import openpyxl
import pydicom
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from tests.data.test_more_readers import RAMP, write_dicom

from benchmarks.dicom_tags import changed_headers
from mirst.data import load_images, read_dataset
from mirst.errors import MirstError
from mirst.nn import ModelCard, build_model, load_backbone, load_model, save_backbone, save_model
from mirst.study import SHIPPED, load_spec

STUDY = SHIPPED / "busi-small.yaml"
PREPARED = ("pixels.npy", "records.csv")
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
    exif = Image.Exif()
    exif[0x112], exif[0x10F] = 6, "maker" * 10
    for suffix, kind in (
        (".jpg", "jpeg"),
        (".png", "png"),
        (".tif", "tiff"),
        ("-webp.png", "webp"),
        ("-gif.png", "gif"),
    ):
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, kind, **({} if kind == "gif" else {"exif": exif}))
        files[f"turned{suffix}"] = buffer.getvalue()
    files |= saved_models(folder)
    files["study.yaml"] = STUDY.read_bytes()
    arrays = {f"{split}_images": np.stack([pixels] * 2) for split in ("train", "val", "test")}
    labels = {f"{split}_labels": np.array([[0], [1]], dtype=np.uint8) for split in ("train", "val", "test")}
    np.savez(folder / "a.npz", **arrays, **labels)
    files["set.npz"] = (folder / "a.npz").read_bytes()
    write_dicom(folder / "a.dcm", RAMP, WindowCenter=100, WindowWidth=200)
    write_dicom(folder / "b.dcm", np.stack([RAMP] * 3))
    files |= {"still.dcm": (folder / "a.dcm").read_bytes(), "clip.dcm": (folder / "b.dcm").read_bytes()}
    files |= dicoms(folder)
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
    np.save(folder / "a.npy", np.stack([pixels] * 2)[:, None])
    files["pixels.npy"] = (folder / "a.npy").read_bytes()
    files["records.csv"] = b"name,label,group,source,scanner\na.png,benign,,s,\nb.png,malignant,g,s,x\n"
    return files


def dicoms(folder: Path) -> dict[str, bytes]:
    """DICOM files that use what the standard offers to show values, and the compressions."""
    deep = RAMP.astype(np.uint16) * 16
    region, window, value, table = (pydicom.Dataset() for _ in range(4))
    region.RegionDataType = 1
    region.RegionLocationMinX0, region.RegionLocationMinY0 = 1, 1
    region.RegionLocationMaxX1, region.RegionLocationMaxY1 = 9, 6
    window.WindowCenter, window.WindowWidth, window.VOILUTFunction = 1000, 2000, "SIGMOID"
    value.RescaleSlope, value.RescaleIntercept, value.RescaleType = 2, -100, "US"
    frame, table.LUTData = pydicom.Dataset(), np.arange(0, 256, 2, dtype="<u2").tobytes()
    frame.FrameVOILUTSequence, frame.PixelValueTransformationSequence = [window], [value]
    table.LUTDescriptor = [128, 0, 8]
    write_dicom(
        folder / "enhanced.dcm", np.stack([deep] * 2), bits=12, PerFrameFunctionalGroupsSequence=[frame, frame],
        SharedFunctionalGroupsSequence=[frame], SequenceOfUltrasoundRegions=[region],
    )  # fmt: skip
    write_dicom(
        folder / "table.dcm", deep, bits=12, VOILUTSequence=[table], PixelPaddingValue=0, PixelPaddingRangeLimit=9,
        PresentationLUTShape="INVERSE",
    )  # fmt: skip
    palette = {f"{name}PaletteColorLookupTableDescriptor": [256, 0, 16] for name in ("Red", "Green", "Blue")}
    palette |= {name.replace("Descriptor", "Data"): bytes(range(256)) * 2 for name in palette}
    write_dicom(folder / "palette.dcm", RAMP, photometric="PALETTE COLOR", **palette)
    names = ("enhanced.dcm", "table.dcm", "palette.dcm")
    compressed = ("MR_small_jp2klossless", "MR_small_jpeg_ls_lossless", "SC_rgb_jpeg_gdcm", "SC_rgb_rle")
    return {name: (folder / name).read_bytes() for name in names} | {
        f"{name}.dcm": Path(pydicom.data.get_testdata_file(f"{name}.dcm")).read_bytes() for name in compressed
    }


def saved_models(folder: Path) -> dict[str, bytes]:
    """Checkpoint and initial weights, in every form that is read."""
    model = build_model("resnet_tiny", 1, 2)
    card = ModelCard(
        model="resnet_tiny",
        drop_max=False,
        channels=1,
        size=32,
        classes=("a", "b"),
        positive="b",
        threshold=0.0,
        defense="CE()",
    )
    save_model(folder / "model.safetensors", model, card)
    save_backbone(folder / "weights.safetensors", model)
    torch.save(model.network.state_dict(), folder / "new.pth")
    torch.save(model.network.state_dict(), folder / "old.pth", _use_new_zipfile_serialization=False)
    return {
        name: (folder / name).read_bytes()
        for name in ("model.safetensors", "weights.safetensors", "new.pth", "old.pth")
    }


def _edit(data: bytearray, edit: tuple[str, int, bytes]) -> None:
    action, place, payload = edit
    at = place % (len(data) + 1)
    if action == "insert":
        data[at:at] = payload
    elif action == "overwrite":
        data[at : at + len(payload)] = payload
    elif action == "cut":
        del data[at : at + len(payload) ** 2]
    else:
        data[at:at] = data[at : at + 40] * len(payload)


def malformed(sound: bytes) -> st.SearchStrategy[bytes]:
    """Edits of a sound file, most of them in its head, and now and then plain rubbish."""
    payload = st.sampled_from((b"\0" * 8, b"\xff" * 4, b"\xff\xff\xff\x7f", b"\x80\0\0\0", b'"', b",,\n", b"../" * 3))
    place = st.integers(0, 200) | st.integers(0, len(sound))
    edit = st.tuples(
        st.sampled_from(("insert", "overwrite", "cut", "repeat")), place, payload | st.binary(min_size=1, max_size=100)
    )

    def apply(edits: list[tuple[str, int, bytes]]) -> bytes:
        data = bytearray(sound)
        for one in edits:
            _edit(data, one)
        return bytes(data)

    edited = st.lists(edit, min_size=1, max_size=4).map(apply)
    return st.integers(0, 19).flatmap(lambda dice: edited if dice else st.binary(max_size=400))


def layout(root: Path, name: str, content: bytes, files: dict[str, bytes]) -> Path:
    """Put the file where a reader meets it; returns what to read."""
    sound = files["image-L.png"]
    if name in PREPARED:
        for part in PREPARED:
            (root / part).write_bytes(content if part == name else files[part])
        return root
    if name == "list.csv" or name == "cases.xlsx":
        for good in ("good.png", "good2.png"):
            (root / good).write_bytes(sound)
        (root / name).write_bytes(content)
        return root / name if name == "list.csv" else root
    if name == "set.npz" or Path(name).suffix in OTHERS:
        (root / name).write_bytes(content)
        return root / name
    for label in ("benign", "malignant"):
        (root / label).mkdir()
        (root / label / "sound.png").write_bytes(sound)
    (root / "benign" / name).write_bytes(content)
    return root


def _read_images(path: Path) -> None:
    records = read_dataset(path)
    load_images([record.file for record in records], 16)


def _read_tensors(path: Path) -> None:
    if path.stem == "model":
        load_model(path)
    else:
        load_backbone(build_model("resnet_tiny", 1, 2), path)


OTHERS = {".safetensors": _read_tensors, ".pth": _read_tensors, ".yaml": load_spec}
"""What is no data set, by its suffix."""


def attempt(path: Path) -> str:
    try:
        OTHERS.get(path.suffix, _read_images)(path)
    except MirstError as error:
        return "refused" if len(str(error).splitlines()) == 1 else "refused in more than a sentence"
    return "read"


class Campaign:
    """Counts what the readers make of malformed files, in a folder of its own."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.files = seeds(base)
        self.outcomes: Counter[tuple[str, str]] = Counter()
        self.slowest = 0.0

    def run(self, name: str, count: int) -> None:
        """`count` files of one kind. Hypothesis shrinks what fails and prints it."""

        @settings(max_examples=count, deadline=None, derandomize=True, database=None, suppress_health_check=HealthCheck)
        @given(malformed(self.files[name]))
        def check(content: bytes) -> None:
            self.read(name, content)

        self._guard(name, check)

    def run_tags(self, name: str) -> None:
        """A DICOM file with each element of its header changed in turn."""
        for content in changed_headers(self.files[name]):
            self._guard(name, lambda content=content: self.read(name, content))

    def _guard(self, name: str, check: Callable[[], None]) -> None:
        try:
            check()
        except Exception:  # noqa: BLE001 (whatever comes is what is looked for)
            traceback.print_exc()
            self.outcomes[name, "FINDING"] += 1

    def read(self, name: str, content: bytes) -> None:
        root = self.base / "set"
        root.mkdir()
        try:
            path = layout(root, name, content, self.files)
            before = sorted(self.base.rglob("*"))
            start = time.monotonic()
            signal.alarm(SECONDS)
            outcome = attempt(path)
            self.slowest = max(self.slowest, time.monotonic() - start)
            self.outcomes[name, outcome] += 1
            assert outcome in ("read", "refused"), outcome
            assert sorted(self.base.rglob("*")) == before, "files were written"
        finally:
            signal.alarm(0)
            shutil.rmtree(root)


def main(count: int) -> int:
    signal.signal(signal.SIGALRM, lambda *_: (_ for _ in ()).throw(TimeoutError("hangs")))
    resource.setrlimit(resource.RLIMIT_AS, (BYTES, BYTES))
    warnings.simplefilter("error")
    with tempfile.TemporaryDirectory() as temporary:
        campaign = Campaign(Path(temporary))
        for name in sorted(campaign.files):
            if name.endswith(".dcm"):
                campaign.run_tags(name)
        headers = campaign.outcomes.total()
        for name in sorted(campaign.files):
            campaign.run(name, math.ceil(max(count - headers, 0) / len(campaign.files)))
        print(f"{headers} DICOM headers changed element by element")
    for (name, outcome), times in sorted(campaign.outcomes.items()):
        print(f"{times:7} {name:18} {outcome}")
    findings = sum(outcome == "FINDING" for _, outcome in campaign.outcomes)
    print(f"{campaign.outcomes.total()} files, {findings} findings, slowest {campaign.slowest:.2f} s")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 20_000))
