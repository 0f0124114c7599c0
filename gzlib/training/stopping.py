"""A run that is told to stop: it finishes its step, writes its checkpoint and leaves."""

import signal
import threading
from contextlib import contextmanager

# EX_TEMPFAIL of sysexits.h, 'try again later': the same command goes on from the checkpoint. A batch system can tell
# it from 143, the status of a program that SIGTERM killed before it could keep anything. torchrun
# itself leaves with 1 in either case.
EXIT_STATUS = 75


class Stopped(SystemExit):
    """Raised after SIGTERM, when the state is safe; the program exits with status 75 unless somebody catches it."""

    def __init__(self):
        super().__init__(EXIT_STATUS)


@contextmanager
def stop_requests():
    """Collect SIGTERM and SIGINT instead of dying of them: yields the list of the signals that came.

    A second SIGINT is a KeyboardInterrupt at once. Outside the main thread, where Python allows no handlers, the list
    stays empty. The handlers that were there before come back at the end.
    """
    requests = []

    def note(number, frame):
        if number == signal.SIGINT and number in requests:
            raise KeyboardInterrupt
        requests.append(number)

    before = {}
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, signal.SIGINT):
            # None means a handler that Python cannot put back; SIG_IGN, that somebody wants the signal unheard.
            if signal.getsignal(number) not in (None, signal.SIG_IGN):
                before[number] = signal.signal(number, note)
    try:
        yield requests
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def leave(requests: list[int]):
    """End the program as the first signal asks: Stopped for SIGTERM, KeyboardInterrupt for SIGINT."""
    raise KeyboardInterrupt if requests[:1] == [signal.SIGINT] else Stopped
