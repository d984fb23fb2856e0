"""The server on a tiny package: the official client is answered as the pipeline answers, held to schemas, in order."""

import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import hypothesis
import pytest
from hypothesis import strategies

pytest.importorskip("fastapi_offline", reason="needs `make install-serve`")

import httpx2
import openai
from projects import ROOT
from serving import Served, eventually, list_files

import app
from press.core import files
from press.core.errors import UserError
from press.data import answers, chats
from press.release import bundle
from press.serve import answering, wire
from press.serve.answering import Package
from press.serve.api import Limits

from .conftest import HERMES, with_template

pytestmark = pytest.mark.integration
QUESTION = "a week in Rome"
DAYS = {"type": "object", "properties": {"days": {"enum": [3, 4]}}, "required": ["days"], "additionalProperties": False}


@pytest.fixture(scope="module")
def served(package: Path) -> Iterator[Served]:
    served = Served(Package(package), Limits())
    yield served
    served.close()


@pytest.fixture
def client(served: Served) -> openai.OpenAI:
    return served.client()


def ask(client: openai.OpenAI, model: str = "travel", question: str = QUESTION, **changes: object):
    given = {"max_tokens": 12, **changes}
    return client.chat.completions.create(model=model, messages=[{"role": "user", "content": question}], **given)


def answer(*words: object, **changes: object) -> str:
    return ask(*words, **changes).choices[0].message.content


def named(schema: dict) -> dict:
    return {"type": "json_schema", "json_schema": {"name": "trip", "schema": schema, "strict": True}}


def changed(package: Path, tmp_path: Path, **changes: object) -> Path:
    """Return a copy of the package whose adapter travel says something else."""
    copy = Path(shutil.copytree(package, tmp_path / "copy"))
    path = copy / "adapters/travel/adapter.json"
    files.write_json(path, files.read_json(path) | changes)
    list_files(copy)
    return copy


def test_a_model_is_the_package_or_an_adapter(client):
    assert [each.id for each in client.models.list()] == ["trips", "base", "packing", "travel"]
    assert client.models.retrieve("travel").id == "travel"
    with pytest.raises(openai.NotFoundError, match="no model 'hotels'"):
        ask(client, "hotels")
    assert answer(client, "trips") == answer(client, "base")


def test_answers_are_those_of_the_chat(client, package):
    """Which are the pipeline's, but for bytes that are no letters."""
    chat, expected = app.Chat(package, max_new_tokens=12), {}
    for name in ("none", "travel", "packing"):
        chat.switch(name)
        expected[name] = "".join(chat.ask(QUESTION))
    assert len(set(expected.values())) == 3
    for name, text in expected.items():
        assert answer(client, "base" if name == "none" else name, temperature=0) == text


def test_adapters_that_take_turns_answer_as_they_do_alone(client):
    asked = [(model, f"question {index}") for index in range(4) for model in ("travel", "base", "packing")]
    alone = [answer(client, *each) for each in asked]
    with ThreadPoolExecutor(len(asked)) as pool:
        assert list(pool.map(lambda each: answer(client, *each), asked)) == alone


def test_a_stream_is_the_answer_in_pieces(client):
    for model in ("travel", "packing"):
        whole = ask(client, model, max_tokens=60)
        *chunks, last = ask(client, model, max_tokens=60, stream=True, stream_options={"include_usage": True})
        assert "".join(each.choices[0].delta.content or "" for each in chunks) == whole.choices[0].message.content
        assert chunks[-1].choices[0].finish_reason == whole.choices[0].finish_reason
        assert last.usage == whole.usage


def test_an_adapter_is_held_to_its_schema_unless_the_request_says_otherwise(client):
    own = ask(client, "packing", max_tokens=None)
    assert own.choices[0].finish_reason == "stop"
    assert json.loads(own.choices[0].message.content).keys() == {"weather", "days"}
    for model in ("packing", "travel", "base"):
        assert json.loads(answer(client, model, response_format=named(DAYS), max_tokens=60))["days"] in (3, 4)
    free = answer(client, "packing", response_format={"type": "text"}, max_tokens=60)
    assert answers.complaint(free, DAYS)
    begun = answer(client, response_format={"type": "json_object"}, max_tokens=60)
    assert begun.startswith("{")


@pytest.mark.parametrize(
    ("schema", "why"),
    [
        ({"type": "object", "propertyNames": {"pattern": "a"}}, "propertyNames"),
        ({"type": "nothing"}, "cannot be held"),
        ({"$ref": "https://example.com/schema.json"}, "cannot be held"),
        ({"x-guidance": {"lenient": True}}, "lenient"),
    ],
)
def test_a_schema_that_answers_cannot_be_held_to_is_refused_and_another_one_is_not(client, schema, why):
    with pytest.raises(openai.BadRequestError, match=why):
        ask(client, response_format=named(schema))
    assert answer(client, response_format=named(DAYS), max_tokens=60)


def test_a_schema_that_takes_too_long_keeps_no_conversation_waiting(package, monkeypatch, start):
    monkeypatch.setattr(answering, "CLIENT_SECONDS", 0)
    served = start(Package(package))
    with pytest.raises(openai.BadRequestError, match=r"it takes more than 0 s"):
        ask(served.client(), response_format=named(DAYS))
    assert answer(served.client())


def test_the_request_says_how_the_answer_is_given(client):
    assert ask(client, max_tokens=3).usage.completion_tokens == 3
    whole = answer(client, max_tokens=60)
    place = next(place for place in range(1, 50) if whole[place : place + 2].isascii())
    stop = whole[place : place + 2]
    stopped = ask(client, max_tokens=60, stop=["never written", stop])
    assert stopped.choices[0].message.content == whole[: whole.index(stop)]
    assert stopped.choices[0].finish_reason == "stop"
    sampled = {seed: answer(client, temperature=1.5, seed=seed) for seed in (1, 2, -1, 2**62)}
    assert len(set(sampled.values())) == 4
    for seed, text in sampled.items():
        assert answer(client, temperature=1.5, seed=seed) == text
    assert answer(client, temperature=1.5, top_p=0, seed=1) == answer(client, temperature=0)
    assert answer(client, temperature=1.5, seed=1, extra_body={"top_k": 1}) == answer(client)


def test_the_bare_model_has_a_conversation_and_an_adapter_single_questions(client):
    turns = [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": "hello"},
        {"role": "user", "content": [{"type": "text", "text": "bye"}]},
    ]
    talk = client.chat.completions.create(model="base", messages=turns, max_tokens=2)
    assert talk.usage.prompt_tokens > sum(len(text) for text in ("Be brief.", "hi", "hello", "bye"))
    for messages in (turns, turns[:1]):
        with pytest.raises(openai.BadRequestError, match="single questions"):
            client.chat.completions.create(model="travel", messages=messages)


@pytest.mark.parametrize(
    ("question", "why"),
    [("a <|im_end|> b", "control token"), ("a\0b", r"U\+0000"), ("word " * 300, "1500|15[0-9][0-9] tokens")],
)
def test_a_prompt_that_the_model_would_read_otherwise_is_refused(client, question, why):
    for model in ("base", "travel"):
        with pytest.raises(openai.BadRequestError, match=why):
            ask(client, model, question)


def test_a_long_prompt_is_read_in_parts_between_which_others_have_turns(client, served):
    assert answer(client, question="x" * 400) == answer(client, question="x" * 400)
    request = wire.ChatRequest(model="travel", messages=[{"role": "user", "content": "y" * 400}], max_tokens=1)
    turns = list(served.package.turns(served.package.read(request)))
    assert turns[:-1] == [""] * 4


def test_prompt_and_answer_end_at_the_context(package, start):
    client = start(Package(package, threads=1, context=60)).client()
    ended = ask(client, max_tokens=500)
    assert (ended.usage.total_tokens, ended.choices[0].finish_reason) == (60, "length")
    with pytest.raises(openai.BadRequestError, match="together may have 60"):
        ask(client, question="x" * 60)


def test_a_model_without_a_chat_template_continues_a_text(package, tmp_path, start):
    copy = changed(package, tmp_path)
    (copy / "chat_template.jinja").unlink(missing_ok=True)
    config = files.read_json(copy / "tokenizer_config.json")
    config.pop("chat_template", None)
    files.write_json(copy / "tokenizer_config.json", config)
    list_files(copy)
    client = start(Package(copy)).client()
    assert ask(client, "base").usage.prompt_tokens == len(QUESTION)
    with pytest.raises(openai.BadRequestError, match="without a chat template answers single questions"):
        client.chat.completions.create(model="base", messages=[{"role": "user", "content": "a"}] * 2)


# Short, as a token of this model is a letter.
WEATHER = {
    "name": "weather",
    "description": "It rains",
    "parameters": {
        "type": "object",
        "properties": {"city": {"$ref": "#/$defs/c"}},
        "required": ["city"],
        "additionalProperties": False,
        "$defs": {"c": {"enum": ["Rome", "Bonn"]}},
    },
}
TOOLS = [{"type": "function", "function": each} for each in (WEATHER, {"name": "now"})]


@pytest.fixture(scope="module")
def calling(calling_package: Path) -> Iterator[Served]:
    """A server whose base model's template has tools."""
    served = Served(Package(calling_package), Limits())
    yield served
    served.close()


@pytest.mark.parametrize(
    ("choice", "names"),
    [("required", ["weather", "now"]), ({"type": "function", "function": {"name": "weather"}}, ["weather"])],
)
def test_a_call_that_must_be_made_is_one_and_satisfies_the_functions_schema(calling, choice, names):
    asked = {"tools": TOOLS, "tool_choice": choice, "max_tokens": 120, "temperature": 1.5}
    for seed in range(3):
        (whole,) = ask(calling.client(), "base", seed=seed, **asked).choices
        assert whole.finish_reason == "tool_calls", whole
        (call,) = whole.message.tool_calls
        assert call.function.name in names
        if call.function.name == "weather":
            assert json.loads(call.function.arguments)["city"] in ("Rome", "Bonn")
        chunks = list(ask(calling.client(), "base", seed=seed, stream=True, **asked))
        (delta,) = [each for chunk in chunks for each in chunk.choices[0].delta.tool_calls or []]
        assert (delta.index, delta.function.model_dump()) == (0, call.function.model_dump())
    cut = ask(calling.client(), "base", **{**asked, "max_tokens": 3}).choices[0]
    assert (cut.finish_reason, cut.message.tool_calls) == ("length", None)


def test_tools_and_what_came_of_them_are_in_the_prompt_as_the_template_has_them(calling):
    package = calling.package
    call = {"id": "1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Rome"}'}}
    turns = [
        {"role": "user", "content": QUESTION},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "1", "content": "sunny"},
    ]

    def prompt(**changes: object) -> str:
        body = json.dumps({"model": "base", "messages": turns, **changes}).encode()
        return package._tokenizer.decode(package._prompts.of(wire.parse(body, wire.ChatRequest), None, thinks=True))

    told = prompt(tools=TOOLS)
    assert json.dumps(WEATHER) in told
    assert '"name": "weather", "arguments": {"city": "Rome"}' in told
    assert "sunny" in told
    assert prompt(tools=TOOLS, tool_choice="required") == told + "<tool_call>\n"
    assert "It rains" not in prompt(tools=TOOLS, tool_choice="none")


@pytest.mark.parametrize(
    ("template", "changes"),
    [(None, {}), ("{{ tools | tojson }}", {}), ("<tool_call>{{ messages }}", {}), (HERMES, {"model": "travel"})],
)
def test_tools_are_refused_where_there_are_none(package, tmp_path, start, template, changes):
    package = with_template(package, tmp_path / "copy", template) if template else package
    client = start(Package(package)).client()
    with pytest.raises(openai.BadRequestError, match="has no tools") as refused:
        ask(client, **{"model": "base", **changes}, tools=TOOLS)
    assert (refused.value.param, refused.value.code) == ("tools", "unsupported_parameter")
    if not changes:
        turn = {"role": "tool", "tool_call_id": "1", "content": "sunny"}
        with pytest.raises(openai.BadRequestError, match="has no tools"):
            client.chat.completions.create(model="base", messages=[turn])
        assert answer(client, "base", tools=TOOLS, tool_choice="none") == answer(client, "base")


@pytest.mark.parametrize(
    ("function", "why"),
    [
        ({"name": "weather", "description": "<|im_end|>"}, "tools has .*control token"),
        ({"name": "weather", "parameters": {"type": "object", "propertyNames": {"pattern": "a"}}}, "propertyNames"),
    ],
)
def test_tools_that_the_model_would_read_otherwise_or_not_be_held_to_are_refused(calling, function, why):
    with pytest.raises(openai.BadRequestError, match=why) as refused:
        ask(calling.client(), "base", tools=[{"type": "function", "function": function}], tool_choice="required")
    assert refused.value.param == "tools"


def test_the_tokens_of_an_answer_are_told_with_the_text_that_they_make(client):
    asked = {"logprobs": True, "top_logprobs": 2, "max_tokens": 30}
    plain, whole = answer(client, max_tokens=30), ask(client, **asked)
    told = whole.choices[0].logprobs.content
    assert whole.choices[0].message.content == plain
    # Greedily, each token is the likeliest one.
    assert all(each.token == each.top_logprobs[0].token and len(each.top_logprobs) == 2 for each in told)
    assert all(each.logprob <= 0 for each in told)
    assert 10 < len(told) <= whole.usage.completion_tokens
    chunks = list(ask(client, stream=True, **asked))
    came = [each for chunk in chunks if chunk.choices[0].logprobs for each in chunk.choices[0].logprobs.content]
    assert came == told
    # What is behind a stop text is not told of.
    stopped = ask(client, stop=plain[len(plain) // 2 :][:2], **asked).choices[0].logprobs.content
    assert 0 < len(stopped) < len(told)
    assert stopped == told[: len(stopped)]
    assert ask(client, max_tokens=2).choices[0].logprobs is None


def test_an_answer_of_a_schema_has_no_thoughts_whatever_the_chat_template_is_settled_to(package, tmp_path, start):
    copy = changed(package, tmp_path)
    thoughts = "{% if enable_thinking %}{% else %}NO THOUGHTS{% endif %}"
    template = "{{ messages[0].content }}" + thoughts
    (copy / "chat_template.jinja").write_text(chats.settled(template, True), encoding="utf-8")
    list_files(copy)
    client = start(Package(copy)).client()
    assert ask(client, "base").usage.prompt_tokens == len(QUESTION)
    held = ask(client, "base", response_format={"type": "json_object"})
    assert held.usage.prompt_tokens == len(QUESTION + "NO THOUGHTS")


def test_files_that_a_release_has_beside_the_package_are_no_reason_to_refuse_it():
    assert sorted(answering.BESIDE) == sorted(bundle.BESIDE)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"base_sha256": "1" * 64}, "another base model"),
        ({"template": "{prompt}"}, "is damaged"),
        ({"template": "{prompt}{response}{}"}, "is damaged"),
        ({"turn": "{prompt}{response}{}"}, "is damaged"),
        ({"turn": 7}, "is damaged"),
        ({"response_schema": {"propertyNames": {}}}, "cannot be held to the response schema of 'travel'"),
        ({"generation": {"top_p": 2}}, "top_p is 2"),
    ],
)
def test_a_package_with_an_adapter_that_cannot_be_served_is_refused(package, tmp_path, changes, why):
    with pytest.raises(UserError, match=why):
        Package(changed(package, tmp_path, **changes))


def test_a_package_is_verified_before_anything_of_it_is_loaded(package, tmp_path, monkeypatch):
    copy = changed(package, tmp_path)
    with (copy / "model.onnx").open("ab") as file:
        file.write(b"x")
    monkeypatch.setattr(answering.decoders, "load", lambda *_: pytest.fail("it is loaded"))
    monkeypatch.setattr(answering, "Apart", lambda *_: pytest.fail("it is loaded"))
    with pytest.raises(UserError, match=r"model\.onnx is damaged"):
        Package(copy)


VALUES = (
    strategies.none()
    | strategies.integers()
    | strategies.floats()
    | strategies.text(max_size=20)
    | strategies.lists(strategies.text(max_size=5), max_size=3)
    | strategies.dictionaries(strategies.text(max_size=5), strategies.text(max_size=5), max_size=2)
)
SCHEMAS = strategies.dictionaries(
    strategies.sampled_from(["type", "enum", "const", "pattern", "minimum", "properties", "items", "anyOf", "$ref"]),
    strategies.sampled_from(["object", "string", "a+", "#", 1, 1.5, [], ["x"], {"a": {}}, {"a": {"type": "string"}}]),
    max_size=3,
)
CHANGES = strategies.dictionaries(strategies.sampled_from(sorted(wire.ChatRequest.model_fields)), VALUES, max_size=3)


@hypothesis.settings(max_examples=60)
@hypothesis.given(CHANGES, strategies.text(max_size=20), strategies.none() | SCHEMAS)
def test_no_request_is_the_servers_failure(served, changes, question, schema):
    asked = {"model": "travel", "messages": [{"role": "user", "content": question}], "max_tokens": 2, **changes}
    if schema is not None:
        asked["response_format"] = named(schema)
    headers = {"Content-Type": "application/json"}
    came = httpx2.post(f"{served.url}/v1/chat/completions", content=json.dumps(asked), headers=headers, timeout=60)
    assert came.status_code in (200, 400, 404), came.text
    assert "error" in came.json() if came.status_code != 200 else True
    assert "server_error" not in came.text


def test_after_all_of_that_it_answers_as_before(served):
    eventually(lambda: served.scheduler.running == served.scheduler.waiting == 0)
    assert answer(served.client())


def test_a_signal_ends_the_program_when_its_answers_are_complete(package, tmp_path):
    """As an operator has it: a process of its own, in another folder, whose log is lines of JSON."""
    key = tmp_path / "key"
    key.write_text("0123456789abcdef\n", encoding="utf-8")
    command = [sys.executable, "-m", "press.serve", str(package), "--port", "0", "--api-key-file", str(key)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True)
    try:
        url = next(found[0] for line in process.stderr if (found := re.findall(r"http://[\d.:]+", line)))
        client = openai.OpenAI(base_url=f"{url}/v1", api_key="0123456789abcdef", max_retries=0)
        stream = ask(client, max_tokens=300, stream=True)
        next(iter(stream))
        process.send_signal(signal.SIGTERM)
        assert [each.choices[0].finish_reason for each in stream][-1] in ("length", "stop")
        rest = process.stderr.read()
        assert process.wait(60) == 0
        said = [json.loads(line) for line in rest.splitlines()]
        assert [line["model"] for line in said if line["message"] == "request"] == ["travel"]
        assert not [line for line in said if line["level"] == "error"]
    finally:
        process.kill()
        process.stderr.close()
        process.wait()


def test_a_mistake_in_starting_it_is_one_sentence(tmp_path):
    command = [sys.executable, "-m", "press.serve", str(tmp_path)]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr.count("\n")) == (1, "", 1)
    assert ended.stderr.startswith("error: ")


def test_threads_of_the_server_end_with_it(package):
    before = threading.active_count()
    served = Served(Package(package), Limits())
    assert answer(served.client())
    served.close()
    eventually(lambda: threading.active_count() <= before + 1)


def talk(package: Package, begins: str, **changes: object) -> tuple[list[str], list[int], list[int]]:
    """Return the answers of a conversation, and how many tokens of each prompt there were and were read for it."""
    turns, texts, lengths, read = [], [], [], []
    for question in (begins, "and with children?", "in winter"):
        turns.append({"role": "user", "content": question})
        request = wire.ChatRequest(model="base", messages=turns, max_tokens=30, **changes)
        given = package.read(request)
        texts.append("".join(package.turns(given)))
        lengths.append(len(given.prompt))
        read.append(len(given.prompt) - given.reused)
        turns.append({"role": "assistant", "content": texts[-1].replace("\0", "")})
    return texts, lengths, read


@pytest.fixture(scope="module")
def forgetful(package: Path) -> Iterator[Package]:
    forgetful = Package(package, kept=0)
    yield forgetful
    forgetful.close()


@pytest.mark.parametrize("changes", [{}, {"temperature": 0, "seed": 3}, {"repetition_penalty": 1.3}])
def test_a_conversations_earlier_turns_are_not_read_again_and_its_answers_are_the_same(served, forgetful, changes):
    kept, lengths, read = talk(served.package, f"of {changes}", **changes)
    fresh, same, all_of_it = talk(forgetful, f"of {changes}", **changes)
    assert kept == fresh
    assert lengths == same == all_of_it
    assert read[1:] == [longer - shorter for shorter, longer in itertools.pairwise(lengths)]


@pytest.mark.parametrize("changes", [{"temperature": 1.2, "seed": 3}, {"response_format": {"type": "json_object"}}])
def test_what_begins_anew_with_each_answer_is_not_gone_on_with(served, forgetful, changes):
    kept, lengths, read = talk(served.package, QUESTION, **changes)
    assert (kept, lengths) == talk(forgetful, QUESTION, **changes)[:2]
    assert read == lengths


def test_an_adapter_that_is_trained_on_conversations_has_one_as_the_chat_has_it(package, tmp_path):
    turn = "\n<|im_start|>user\n{prompt}<|im_end|>\n<|im_start|>assistant\n{response}<|im_end|>"
    copy = changed(package, tmp_path, template=f"<|im_start|>system\nBe brief.<|im_end|>{turn}", turn=turn)
    chat, messages = app.Chat(copy, max_new_tokens=12), []
    chat.switch("travel")
    served = Served(Package(copy), Limits())
    client = served.client()
    try:
        for question in ("one", "two", "three"):
            messages.append({"role": "user", "content": question})
            reply = client.chat.completions.create(model="travel", messages=messages, max_tokens=12)
            assert reply.choices[0].message.content == "".join(chat.ask(question))
            assert (reply.usage.prompt_tokens_details.cached_tokens > 0) == (question != "one")
            messages.append({"role": "assistant", "content": reply.choices[0].message.content})
        for wrong in (messages, [{"role": "system", "content": "Be long."}, *messages[:1]], messages[1:2]):
            with pytest.raises(openai.BadRequestError, match=r"in turns|nothing to answer"):
                client.chat.completions.create(model="travel", messages=wrong, max_tokens=12)
        # What was called earlier would be left out in silence.
        call = {"id": "1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}
        called = [messages[0], {**messages[1], "tool_calls": [call]}, messages[2]]
        with pytest.raises(openai.BadRequestError, match="an adapter has no tools") as refused:
            client.chat.completions.create(model="travel", messages=called, max_tokens=12)
        assert refused.value.param == "messages.1.tool_calls"
    finally:
        served.close()


def test_a_question_that_was_asked_is_read_again_by_another_adapter(client):
    first, again, other = (ask(client, model, "the same question") for model in ("travel", "travel", "base"))
    assert first.choices[0].message.content == again.choices[0].message.content
    read = [each.usage.prompt_tokens - each.usage.prompt_tokens_details.cached_tokens for each in (first, again, other)]
    assert read == [first.usage.prompt_tokens, 2, other.usage.prompt_tokens]
