"""Data sets that TensorFlow Datasets prepares: found on disk, or fetched once."""

from __future__ import annotations

import urllib.error
import urllib.request
from typing import Any

from kerastoolkit.experiment import InputError, may_fetch


def prepared_builder(name: str, data_dir: str | None) -> Any:
    """The tfds builder of a data set that is on disk, where need be after fetching it.

    Args:
        name: what TensorFlow Datasets calls it.
        data_dir: where data sets are; by default TFDS_DATA_DIR or ~/tensorflow_datasets.
    Raises:
        InputError: there is no such data set, or it is not there and cannot be fetched.
    """
    builder = named_builder(name, data_dir)
    if builder.is_prepared():
        return builder
    missing = f"{name} is not in {builder.data_path}"
    if not may_fetch():
        raise InputError(missing)
    if not _answers(builder.info.homepage) and not _answers("https://storage.googleapis.com"):
        # Asked first because the downloader goes on trying for minutes.
        raise InputError(f"{missing} and there is no network to fetch it over; --data sample needs none")
    try:
        builder.download_and_prepare()
    except Exception as error:  # whatever the downloader, the disk or the parser of the files raises
        reason = (str(error).splitlines() or [""])[0][:200]
        problem = f"cannot be fetched ({type(error).__name__}: {reason})"
        raise InputError(f"{missing} and {problem}; --data sample needs no download") from error
    return builder


def named_builder(name: str, data_dir: str | None) -> Any:
    """The tfds builder of a data set, be it on disk or not; the arguments are those of ``prepared_builder``.

    Raises:
        InputError: there is no such data set.
    """
    import tensorflow_datasets as tfds

    try:
        return tfds.builder(name, data_dir=data_dir)
    except Exception as error:  # whatever its registry raises for a name that it does not know
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise InputError(f"{name}: TensorFlow Datasets has no such data set ({reason})") from None


def _answers(url: str) -> bool:
    """Whether a server says anything at all, be it an error."""
    try:
        urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=10).close()
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False
    return True
