"""What the thread that serves files tells of one of them."""

from __future__ import annotations

import asyncio
import threading

import pytest

from voip.errors import AudioFileError
from voip.session.file_job import FileJob


async def test_what_breaks_with_the_last_write_is_told_though_the_job_ends_with_it() -> None:
    told: list[Exception] = []
    job = FileJob(told.append)
    job.ready()
    await job.wait_ready()
    full = AudioFileError("the disk is full", hint="make room")
    breaking = threading.Thread(target=job.broke, args=(full,))
    breaking.start()
    breaking.join()
    assert job.error is full  # at once
    job.end()
    await asyncio.sleep(0)
    assert told == [full]
    job.broke(full)
    await asyncio.sleep(0)
    assert told == [full]  # nobody is told any more


async def test_what_is_raised_says_the_same_each_time_and_keeps_no_frames() -> None:
    job = FileJob()
    try:
        raise AudioFileError("x.wav cannot be written", hint="another folder")
    except AudioFileError as error:
        job.broke(error)
    for _ in range(2):
        with pytest.raises(AudioFileError, match=r"x.wav cannot be written \(another folder\)"):
            await job.wait_ready()
    assert job.error is not None and job.error.__traceback__ is None
    assert job.over.is_set()
