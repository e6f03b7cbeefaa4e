"""DICOM files as records: each frame an image, each patient a group under a pseudonym."""

from dataclasses import replace

from mirst.data.dicom import frame_count, patient_of
from mirst.data.file_kind import Kind, file_kind
from mirst.data.record import Record


def by_frame(records: list[Record], source: str) -> list[Record]:
    """The records, those of DICOM files replaced by one for each frame.

    A DICOM file without a group gets that of its patient: the group that another file of the patient has, else
    `SOURCE-patient-NUMBER`. Patients are numbered in the order of the files; no identifier leaves this
    function. The frames of a file without a patient form a group of their own.
    """
    is_dicom = [file_kind(record.path) is Kind.DICOM for record in records]
    pictures = [record for record, dicom in zip(records, is_dicom, strict=True) if not dicom]
    files = sorted((r for r, dicom in zip(records, is_dicom, strict=True) if dicom), key=lambda record: record.path)
    found = [(record, patient_of(record.path), frame_count(record.path)) for record in files]
    groups = {patient: record.group for record, patient, _ in found if patient and record.group}
    numbers: dict[str, int] = {}
    frames = []
    for record, patient, count in found:
        group = record.group or f"{source}-{record.name}"
        if record.group is None and patient is not None:
            number = numbers.setdefault(patient, len(numbers) + 1)
            group = groups.get(patient) or f"{source}-patient-{number}"
        for frame in range(count):
            name = f"{record.name}#{frame}" if count > 1 else record.name
            frames.append(replace(record, group=group, name=name, item=str(frame)))
    return pictures + frames
