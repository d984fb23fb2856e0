"""What a client did wrong, or the server cannot do: OpenAI's error objects, each with its HTTP status."""

from collections.abc import Mapping

# What a request's line in the log has for its status, as nginx has it.
GONE = 499


class RefusedError(Exception):
    """A request that is not answered; the message is a sentence for the client.

    :param param: the parameter that is wrong
    :param code: OpenAI's short name of what is wrong
    """

    kind = "invalid_request_error"

    def __init__(
        self,
        message: str,
        status: int = 400,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.param = param
        self.code = code
        self.headers = dict(headers or {})

    def body(self) -> dict:
        """Return OpenAI's error object."""
        kind = "server_error" if self.status >= 500 else self.kind
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}


class BusyError(RefusedError):
    """All places are taken."""

    kind = "rate_limit_error"

    def __init__(self, seconds: int) -> None:
        super().__init__(
            f"as many answers are given or wait as may: try again in {seconds} s",
            429,
            code="rate_limit_exceeded",
            headers={"Retry-After": str(seconds)},
        )


class LateError(RefusedError):
    """The time of a request is up."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"the answer was not complete within {seconds:g} s", 504, code="timeout")


class GoneError(RefusedError):
    """The client has gone, so that nobody reads this; the log has its status."""

    def __init__(self) -> None:
        super().__init__("the client has gone", GONE, code="client_gone")


class FailedError(RefusedError):
    """The server's own failure, which its log tells."""

    def __init__(self) -> None:
        super().__init__("the server failed: its log says how, under the X-Request-Id", 500, code="internal_error")
