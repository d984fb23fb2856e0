"""The server with a stand-in for the model: places, time, clients that go, keys, sizes, and what its operator sees."""

import contextlib
import functools
import json
import re
import socket
import threading
import time

import pytest

pytest.importorskip("fastapi_offline", reason="needs `make install-serve`")

import httpx2
import openai
from serving import SECONDS, Served, StandIn, eventually

from press.serve.reasoning import Thought

pytestmark = pytest.mark.integration
KEY, OTHER = "0123456789abcdef", "fedcba9876543210"
URL = "/v1/chat/completions"
get, post = (functools.partial(each, timeout=SECONDS) for each in (httpx2.get, httpx2.post))


def body(question: str = "slowly", **changes: object) -> dict:
    return {"model": "travel", "messages": [{"role": "user", "content": question}], **changes}


def error(response: httpx2.Response) -> dict:
    found = response.json()
    assert found.keys() == {"error"}
    assert found["error"].keys() == {"message", "type", "param", "code"}
    assert response.headers["x-request-id"].startswith("req_")
    return found["error"]


def at_once(served: Served) -> None:
    """Let the server answer something else."""
    answer = served.client().chat.completions.create(**body("at once"), max_tokens=2)
    assert answer.choices[0].message.content == "word word "


@contextlib.contextmanager
def answering(served: Served, **changes: object):
    """A request that another thread makes; what comes of it is in the list."""
    came: list[httpx2.Response] = []

    def ask() -> None:
        came.append(post(served.url + URL, json=body(**changes), timeout=60))

    thread = threading.Thread(target=ask)
    thread.start()
    yield came
    thread.join(60)
    assert came


def sent(served: Served, given: dict, size: int | None = None) -> socket.socket:
    """Send a request by hand, and read nothing."""
    raw = json.dumps(given).encode()
    connection = socket.create_connection(("127.0.0.1", served.port), timeout=SECONDS)
    head = f"POST {URL} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {size or len(raw)}\r\n"
    connection.sendall(head.encode() + b"\r\n" + raw)
    return connection


def test_an_answer_is_whole_or_a_stream_and_says_how_it_ended(start):
    client = start(StandIn()).client()
    whole = client.chat.completions.create(**body("at once"), max_tokens=3)
    assert (whole.choices[0].message.content, whole.choices[0].finish_reason) == ("word word word ", "length")
    assert whole.usage.model_dump(exclude_none=True) == {
        "prompt_tokens": 3,
        "completion_tokens": 3,
        "total_tokens": 6,
        "prompt_tokens_details": {"cached_tokens": 0},
    }
    chunks = list(client.chat.completions.create(**body("at once"), max_tokens=3, stream=True))
    assert "".join(each.choices[0].delta.content or "" for each in chunks) == "word word word "
    assert [each.choices[0].finish_reason for each in chunks] == [None] * 4 + ["length"]
    assert {each.id for each in chunks} == {chunks[0].id}
    told = {"stream": True, "stream_options": {"include_usage": True}}
    *_, last = client.chat.completions.create(**body("at once"), max_tokens=3, **told)
    assert (last.choices, last.usage.total_tokens) == ([], 6)
    said = 'a "quote", \\, a line\nand ü'
    chunks = client.chat.completions.create(**body(f"say {said}"), stream=True)
    assert "".join(each.choices[0].delta.content or "" for each in chunks) == said


TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
CALL = '<tool_call>\n{"name": "weather", "arguments": {"city": "Rome"}}\n</tool_call>'


def test_a_call_in_an_answer_is_one_of_the_clients_whole_or_in_a_stream(start):
    client = start(StandIn()).client()
    asked = body(f"say I look.\n{CALL}\n{CALL}", tools=[TOOL])
    (whole,) = client.chat.completions.create(**asked).choices
    assert (whole.message.content, whole.finish_reason) == ("I look.", "tool_calls")
    calls = [each.function for each in whole.message.tool_calls]
    assert [(each.name, json.loads(each.arguments)) for each in calls] == [("weather", {"city": "Rome"})] * 2
    with client.chat.completions.stream(**asked) as stream:
        (came,) = stream.get_final_completion().choices
    assert (came.message.content, came.finish_reason) == ("I look.", "tool_calls")
    assert [each.function.arguments for each in came.message.tool_calls] == [each.arguments for each in calls]
    assert len({each.id for each in came.message.tool_calls}) == 2
    (alone,) = client.chat.completions.create(**body(f"say {CALL}", tools=[TOOL])).choices
    assert alone.message.content is None
    for changes in ({}, {"tools": [TOOL], "tool_choice": "none"}):
        (text,) = client.chat.completions.create(**body(f"say {CALL}", **changes)).choices
        assert (text.message.content, text.message.tool_calls, text.finish_reason) == (CALL, None, "stop")


def test_a_piece_is_sent_when_it_is_there(start):
    package = StandIn()
    stream = iter(start(package).client().chat.completions.create(**body(), stream=True, max_tokens=2))
    assert next(stream).choices[0].delta.role == "assistant"
    for _ in range(2):
        package.pace.release()
        assert next(stream).choices[0].delta.content == "word "
    assert next(stream).choices[0].finish_reason == "length"


def test_past_the_last_place_a_client_is_told_when_to_come_again(start):
    package = StandIn()
    served = start(package, at_once=1, waiting=1)
    with answering(served, max_tokens=1) as first, answering(served, max_tokens=1) as second:
        eventually(lambda: served.scheduler.running == served.scheduler.waiting == 1)
        refused = post(served.url + URL, json=body())
        with pytest.raises(openai.RateLimitError):
            served.client().chat.completions.create(**body())
        package.pace.release(2)
    assert refused.status_code == 429
    assert error(refused)["code"] == "rate_limit_exceeded"
    assert int(refused.headers["retry-after"]) >= 1
    assert first[0].status_code == second[0].status_code == 200
    at_once(served)


def test_an_answer_that_takes_too_long_ends_and_gives_its_place_back(start):
    served = start(StandIn(), at_once=1, waiting=0, seconds=0.3)
    late = post(served.url + URL, json=body())
    assert late.status_code == 504
    assert error(late)["code"] == "timeout"
    eventually(lambda: served.scheduler.running == 0)
    stream = served.client().chat.completions.create(**body(), stream=True)
    with pytest.raises(openai.APIError, match=r"not complete within 0\.3 s"):
        list(stream)
    eventually(lambda: served.scheduler.running == 0)
    at_once(served)


@pytest.mark.parametrize("stream", [True, False])
def test_an_answer_whose_client_has_gone_takes_no_further_turn(start, stream, lines):
    package = StandIn()
    served = start(package, at_once=1, waiting=1)
    connection = sent(served, body(stream=stream))
    eventually(lambda: served.scheduler.running == 1)
    behind = sent(served, body(stream=stream))
    eventually(lambda: served.scheduler.waiting == 1)
    connection.close()
    behind.close()
    eventually(lambda: served.scheduler.running == served.scheduler.waiting == 0)
    at_once(served)
    assert "slowly" not in package.written
    assert [each["broken"] for each in lines() if "broken" in each] == ["client gone"] * 2


def test_a_client_that_does_not_read_changes_nothing_for_others(start):
    package = StandIn()
    served = start(package, at_once=1, waiting=1)
    # More than all buffers on the way take.
    slow = sent(served, body("at once", stream=True, max_tokens=60_000))
    eventually(lambda: len(package.written) == 60_000)
    at_once(served)
    slow.close()


def test_a_client_that_sends_slowly_has_no_place_and_is_refused_in_the_end(start):
    served = start(StandIn(), at_once=1, waiting=0, seconds=1)
    slow = sent(served, body(), size=1000)
    at_once(served)
    assert b" 408 " in slow.recv(1000)
    slow.close()
    with contextlib.closing(sent(served, body(), size=1000)):
        at_once(served)


def test_a_client_that_goes_while_it_sends_is_a_line_of_the_log_and_no_failure(start, lines, caplog):
    served = start(StandIn())
    sent(served, body(), size=1000).close()
    eventually(lambda: bool(lines()))
    assert [(each["status"], each["level"]) for each in lines()] == [(499, "info")]
    at_once(served)
    assert not [each for each in caplog.records if each.exc_info]


def test_a_failure_is_told_without_its_reason_and_ends_that_answer_alone(start, caplog):
    served = start(StandIn())
    failed = post(served.url + URL, json=body("fail"))
    assert failed.status_code == 500
    assert error(failed)["type"] == "server_error"
    assert "the runtime fails" not in failed.text
    assert "the runtime fails" in caplog.text
    with pytest.raises(openai.APIError, match="the server failed"):
        list(served.client().chat.completions.create(**body("fail"), stream=True))
    at_once(served)


def test_without_the_key_nothing_is_told_but_that_it_is_there(start):
    served = start(StandIn(), keys=(KEY, OTHER))
    for path in ("/v1/models", "/v1/models/base", "/metrics"):
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": KEY}):
            refused = get(served.url + path, headers=headers)
            assert refused.status_code == 401
            assert error(refused)["code"] == "invalid_api_key"
        assert get(served.url + path, headers={"Authorization": f"Bearer {OTHER}"}).status_code == 200
    with pytest.raises(openai.AuthenticationError):
        served.client("wrong").chat.completions.create(**body("at once"))
    assert served.client(KEY).chat.completions.create(**body("at once"), max_tokens=1)
    for path in ("/health", "/ready"):
        assert get(served.url + path).status_code == 200


def test_a_page_in_a_browser_reaches_no_server_without_a_key_by_another_name(start):
    served = start(StandIn(), hosts=("localhost", "127.0.0.1"))
    refused = post(served.url + URL, json=body("at once"), headers={"Host": "evil.example:80"})
    assert refused.status_code == 403
    assert error(refused)["code"] == "wrong_host"
    # Such a page may send this without asking first.
    plain = post(served.url + URL, content=json.dumps(body("at once")), headers={"Content-Type": "text/plain"})
    assert plain.status_code == 415
    at_once(served)


@pytest.mark.parametrize("told", [True, False])
def test_a_body_that_is_too_large_is_refused_before_it_is_whole(start, told):
    served = start(StandIn(), body=1000)
    raw = json.dumps(body("x" * 1000)).encode()
    headers = {"Content-Type": "application/json"}
    refused = post(served.url + URL, content=raw if told else iter([raw]), headers=headers)
    assert refused.status_code == 413
    assert error(refused)["code"] == "request_too_large"
    at_once(served)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/none", 404), ("GET", URL, 405), ("POST", "/v1/embeddings", 404), ("GET", "/v1/models/none", 404)],
)
def test_what_is_not_there_is_refused_in_the_same_form(start, method, path, status):
    refused = httpx2.request(method, start(StandIn()).url + path, timeout=SECONDS)
    assert refused.status_code == status
    assert error(refused)["type"] == "invalid_request_error"


def test_the_operator_sees_tokens_and_times_by_model_and_no_text_of_a_client(start, lines):
    served = start(StandIn())
    client = served.client()
    answer = client.chat.completions.with_raw_response.create(**body("at once", user="secret"), max_tokens=5)
    with pytest.raises(openai.BadRequestError):
        client.chat.completions.create(**body("secret", model="secret"), temperature=9)
    get(f"{served.url}/secret?secret=1")
    eventually(lambda: len(lines()) == 3)
    page = get(f"{served.url}/metrics").text
    assert 'press_tokens_total{kind="completion",model="travel"} 5.0' in page
    assert 'press_requests_total{model="travel",status="200"} 1.0' in page
    assert 'press_requests_total{model="",status="400"} 1.0' in page
    assert 'press_between_tokens_seconds_count{model="travel"} 4.0' in page
    assert 'press_first_token_seconds_count{model="travel"} 1.0' in page
    assert "press_running_answers 0.0" in page
    told = lines()[0]
    assert told["request"] == answer.headers["x-request-id"]
    assert (told["model"], told["status"], told["completion_tokens"]) == ("travel", 200, 5)
    assert told["finish_reason"] == "length"
    assert "secret" not in page + json.dumps(lines())


def test_the_description_has_what_is_sent_and_its_page_needs_no_network(start):
    served = start(StandIn(), keys=(KEY,))
    described = get(f"{served.url}/openapi.json").json()
    post = described["paths"][URL]["post"]
    reference = post["requestBody"]["content"]["application/json"]["schema"]["$ref"]
    assert "messages" in described["components"]["schemas"][reference.rpartition("/")[2]]["required"]
    assert {"200", "400", "401", "429", "504"} <= post["responses"].keys()
    assert post["security"]
    references = set(re.findall(r'"#/components/schemas/(\w+)"', json.dumps(described)))
    assert references <= described["components"]["schemas"].keys()
    page = get(f"{served.url}/docs").text
    links = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert links
    for link in links:
        assert link.startswith("/")
        assert get(served.url + link).status_code == 200


def test_a_server_that_stops_finishes_what_it_began_and_takes_no_more(start):
    package = StandIn()
    served = start(package)
    with answering(served, max_tokens=2) as came:
        eventually(lambda: served.scheduler.running == 1)
        stopping = threading.Thread(target=served.close)
        stopping.start()
        time.sleep(0.2)
        with pytest.raises(httpx2.ConnectError):
            get(f"{served.url}/health")
        package.pace.release(2)
    assert came[0].json()["choices"][0]["message"]["content"] == "word word "
    stopping.join(60)
    assert not served.scheduler.ready


class Thinking(StandIn):
    """In place of a package whose model thinks before it answers."""

    said: tuple[str, ...] = (Thought(""), Thought("so "), Thought("it is"), "", "yes", "!")

    def turns(self, answer):
        for piece in self.said:
            answer.written += 1
            yield piece


def test_thoughts_are_kept_out_of_the_answer(start):
    client = start(Thinking()).client()
    (choice,) = client.chat.completions.create(**body()).choices
    assert (choice.message.content, choice.message.reasoning_content) == ("yes!", "so it is")
    found = [chunk.choices[0].delta for chunk in client.chat.completions.create(**body(), stream=True)]
    thoughts = [each.reasoning_content for each in found if getattr(each, "reasoning_content", None)]
    assert thoughts == ["so ", "it is"]
    assert [each.content for each in found if each.content] == ["yes", "!"]


class Thoughtless(Thinking):
    """In place of one whose model ends its thoughts at once."""

    said = (Thought(""), "yes")


@pytest.mark.parametrize("package", [StandIn, Thoughtless])
@pytest.mark.parametrize("changes", [{}, {"tools": [TOOL]}])
def test_an_answer_without_thoughts_has_no_word_of_them(start, package, changes):
    served = start(package())
    given = body("at once", max_tokens=2, **changes)
    found = post(served.url + URL, json=given).json()
    assert "reasoning_content" not in found["choices"][0]["message"]
    assert "reasoning_content" not in post(served.url + URL, json=given | {"stream": True}).text


def test_a_client_may_send_back_what_the_model_thought(start):
    said = {"role": "assistant", "content": "yes", "reasoning_content": "so it is"}
    question = {"role": "user", "content": "at once"}
    given = body(max_tokens=1) | {"messages": [question, said, question]}
    assert post(start(StandIn()).url + URL, json=given).status_code == 200
