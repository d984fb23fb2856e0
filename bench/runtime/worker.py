"""The frame of a contestant's process: one JSON request a line on stdin, one JSON answer a line on stdout."""

import json
import os
import sys
from collections.abc import Callable


def serve(start: Callable[[dict], dict], answers: dict[str, Callable[[dict], dict]]) -> None:
    """Answer requests until stdin ends; whatever a library prints goes to stderr.

    :param start: takes the options on the command line and returns the first answer
    :param answers: what answers a request, by its "do"
    """
    channel = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    _say(channel, start(json.loads(sys.argv[1])))
    for line in sys.stdin:
        request = json.loads(line)
        _say(channel, answers[request["do"]](request))


def _say(channel, answer: dict) -> None:
    channel.write(json.dumps(answer) + "\n")
    channel.flush()
