"""DICOM files as records: each frame an image, each patient a group under a pseudonym."""

from pathlib import Path

from mirst.data.dicom import frame_count, patient_of
from mirst.data.record import Record


def dicom_records(root: Path, files: list[tuple[Path, str]], source: str) -> list[Record]:
    """One record per frame of the labelled `files`.

    Patients are numbered in the order of the files; no identifier leaves this function. The frames
    of a file without a patient form a group of their own.
    """
    numbers: dict[str, int] = {}
    records = []
    for path, label in sorted(files):
        patient = patient_of(path)
        name = path.relative_to(root).as_posix()
        group = (
            f"{source}-{name}"
            if patient is None
            else f"{source}-patient-{numbers.setdefault(patient, len(numbers) + 1)}"
        )
        count = frame_count(path)
        for frame in range(count):
            suffix = f"#{frame}" if count > 1 else ""
            records.append(Record(path, label, group, source, name + suffix, str(frame)))
    return records
