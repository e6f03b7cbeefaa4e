"""Downloads with checksums that resume after an interruption."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mirst.errors import MirstError

CHUNK = 2**14
"""Bytes per read, and at most lost by an interruption."""
TIMEOUT = 30.0

OnBytes = Callable[[int, int | None], None]
"""Called with the bytes received and the total, which is `None` if the server does not state it."""


def download(url: str, path: Path, checksum: str | None = None, on_bytes: OnBytes = lambda _there, _all: None) -> Path:
    """Download `url` to `path`. An interrupted download continues where it stopped.

    Args:
        checksum: `algorithm:hex`; the first digits are enough, as in published file names.

    Raises:
        MirstError: no network, no such file on the server, or another checksum.
    """
    import pooch
    import requests

    pooch.get_logger().setLevel("ERROR")
    unfinished = path.with_name(f"{path.name}.unfinished")
    try:
        pooch.retrieve(url, None, path.name, path.parent, downloader=_Resuming(unfinished, on_bytes))
    except requests.HTTPError as error:
        raise MirstError(f"{url} does not deliver the file ({error}); it may have moved") from error
    except requests.RequestException as error:
        raise MirstError(f"cannot reach {url}; check the network and run the command again") from error
    except OSError as error:
        raise MirstError(f"cannot write {path} ({error.strerror or error}); set MIRST_CACHE") from error
    if checksum is not None:
        algorithm, _, expected = checksum.partition(":")
        if not pooch.file_hash(str(path), algorithm).startswith(expected):
            path.unlink()
            raise MirstError(f"{url} does not have the checksum {checksum}; fetch again or ask its publisher")
    return path


class _Resuming:
    """A pooch downloader that keeps received bytes and requests the rest."""

    def __init__(self, unfinished: Path, on_bytes: OnBytes) -> None:
        self.unfinished = unfinished
        self.on_bytes = on_bytes

    def __call__(self, url: str, output_file: str, _pooch: object) -> None:
        import requests

        there = self.unfinished.stat().st_size if self.unfinished.exists() else 0
        headers = {"Range": f"bytes={there}-"} if there else {}
        with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT) as response:
            if response.status_code != requests.codes.requested_range_not_satisfiable:  # else it is complete
                response.raise_for_status()
                resumed = response.status_code == requests.codes.partial_content
                self._save(response, there if resumed else 0)
        shutil.copyfile(self.unfinished, output_file)
        self.unfinished.unlink()

    def _save(self, response: Any, there: int) -> None:
        import requests

        length = response.headers.get("Content-Length")
        total = None if length is None else there + int(length)
        with self.unfinished.open("ab" if there else "wb") as file:
            for chunk in response.iter_content(CHUNK):
                file.write(chunk)
                there += len(chunk)
                self.on_bytes(there, total)
        if total is not None and there < total:
            raise requests.ConnectionError(f"the connection ended after {there} of {total} bytes")
