"""Others' adapters of OpenAI's API ask the server unchanged: LangChain's and LiteLLM's, where they are installed.

python -m pip install langchain-openai==1.7.3           (50 MB)
python -m pip install litellm==1.110.2                  (200 MB)
"""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("fastapi_offline", reason="needs `make install-serve`")

from serving import Served

from press.serve.answering import Package
from press.serve.api import Limits

pytestmark = pytest.mark.integration
QUESTION = "a week in Rome"
WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "It rains",
        "parameters": {
            "type": "object",
            "properties": {"city": {"enum": ["Rome", "Bonn"]}},
            "required": ["city"],
            "additionalProperties": False,
        },
    },
}
DAYS = {
    "title": "trip",
    "type": "object",
    "properties": {"days": {"enum": [3, 4]}},
    "required": ["days"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def served(calling_package: Path) -> Iterator[Served]:
    served = Served(Package(calling_package), Limits())
    yield served
    served.close()


def expected(served: Served) -> str:
    question = [{"role": "user", "content": QUESTION}]
    answer = served.client().chat.completions.create(model="travel", messages=question, max_tokens=12)
    return answer.choices[0].message.content


def test_langchains_adapter_answers_streams_calls_tools_and_keeps_to_a_schema(served):
    langchain = pytest.importorskip("langchain_openai", reason="needs `pip install langchain-openai`")

    def model(name: str, tokens: int):
        where = {"base_url": f"{served.url}/v1", "api_key": "none", "max_retries": 0}
        return langchain.ChatOpenAI(model=name, max_tokens=tokens, **where)

    travel, base = model("travel", 12), model("base", 120)
    assert travel.invoke(QUESTION).content == expected(served)
    assert "".join(chunk.content for chunk in travel.stream(QUESTION)) == expected(served)
    (call,) = base.bind_tools([WEATHER], tool_choice="weather").invoke("hi").tool_calls
    assert call["name"] == "weather"
    assert call["args"]["city"] in ("Rome", "Bonn")
    assert base.with_structured_output(DAYS, method="json_schema").invoke("hi")["days"] in (3, 4)


def test_litellms_adapter_answers_streams_and_calls_tools(served):
    litellm = pytest.importorskip("litellm", reason="needs `pip install litellm`")

    def ask(name: str, question: str, **changes: object):
        where = {"api_base": f"{served.url}/v1", "api_key": "none", "num_retries": 0}
        messages = [{"role": "user", "content": question}]
        return litellm.completion(model=f"openai/{name}", messages=messages, **where, **changes)

    assert ask("travel", QUESTION, max_tokens=12).choices[0].message.content == expected(served)
    chunks = ask("travel", QUESTION, max_tokens=12, stream=True)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == expected(served)
    choice = {"type": "function", "function": {"name": "weather"}}
    called = ask("base", "hi", max_tokens=120, tools=[WEATHER], tool_choice=choice)
    (call,) = called.choices[0].message.tool_calls
    assert json.loads(call.function.arguments)["city"] in ("Rome", "Bonn")
