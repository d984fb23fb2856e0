"""Call a library that may never return: in a process of its own, which is ended when its time is up."""

import multiprocessing
import signal
from collections.abc import Callable
from multiprocessing.connection import Connection

from press import command
from press.errors import UserError


def call(function: Callable, *arguments: object, seconds: float, whom: str) -> object:
    """Return what a function returns, called in another process.

    :param function: of a module's top level; it may print, and show progress
    :param seconds: after which the process is killed; what the function does has to bear that
    :param whom: what the function asks, for the sentence
    :raises UserError: as the function raises it; if the time is up; or for any other failure of the function
    """
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_answer, args=(sender, function, arguments, whom), daemon=True)
    with receiver:
        try:
            process.start()
            sender.close()
            if not receiver.poll(seconds):
                raise UserError(f"{whom} gave no answer in {seconds:.0f} s: check the network, then run this again")
            reason, answer = receiver.recv()
        except EOFError:
            raise UserError(f"{whom} could not be asked: the process that did was ended; run this again") from None
        finally:
            if process.pid:
                process.kill()
                process.join()
    if reason:
        raise UserError(reason)
    return answer


def _answer(sender: Connection, function: Callable, arguments: tuple, whom: str) -> None:
    # Ctrl-C reaches both processes; the other one ends this one.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        reply = (None, function(*arguments))
    except UserError as error:
        reply = (str(error), None)
    except Exception as error:  # noqa: BLE001 - each library has its own
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        full = command.is_full_disk(error)
        reply = (command.FULL_DISK if full else f"{whom} could not be asked: {reason}", None)
    sender.send(reply)
