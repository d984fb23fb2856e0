"""What was read of a conversation is not read again, changes no answer, and takes no more memory than it may."""

import pytest

pytest.importorskip("onnxruntime_genai")

from press.serve.generators import Generators, Held


class Reader:
    """In place of the runtime's generator."""

    def __init__(self, room: int) -> None:
        self.room = room
        self.tokens: list[int] = []

    def rewind_to(self, length: int) -> None:
        assert 0 < length <= len(self.tokens)
        self.tokens = self.tokens[:length]


def kept(most: int = 10_000, longest: int = 4096, unwanted=lambda _: False) -> Generators:
    return Generators(most, longest, unwanted)


def read(generators: Generators, prompt: list[int], key: object = "a", length: int | None = None) -> list[int]:
    """Read a prompt, and write something; return the tokens that were read."""
    tokens = []
    with generators.using(key, prompt, length or len(prompt) + 10, Reader) as held:
        for part in held.parts(prompt, 16):
            held.generator.tokens += part
            tokens += part
        assert held.generator.tokens == prompt
        held.generator.tokens += [0] * 5
    return tokens


@pytest.mark.parametrize(
    ("length", "sizes"), [(1, [1]), (2, [2]), (16, [16]), (17, [15, 2]), (18, [16, 2]), (33, [16, 15, 2]), (0, [])]
)
def test_a_prompt_is_read_in_parts_of_which_none_is_one_token(length, sizes):
    parts = list(Held(None, 100).parts(list(range(length)), 16))
    assert [len(part) for part in parts] == sizes
    assert [token for part in parts for token in part] == list(range(length))


def test_a_turn_reads_what_came_to_the_conversation():
    generators, first = kept(), list(range(20))
    assert read(generators, first) == first
    second = [*first, *range(100, 110)]
    assert read(generators, second) == second[20:]
    assert read(generators, [*second, 7, 8]) == [7, 8]
    assert read(generators, [*second, 7, 8]) == [7, 8]
    assert read(generators, [*second, 7, 8, 9]) == [8, 9]


def test_a_turn_that_was_changed_reads_from_there_on():
    generators, prompt = kept(), list(range(20))
    read(generators, prompt)
    assert read(generators, [*prompt[:15], 1, 1, 1]) == [1, 1, 1]
    assert read(generators, prompt) == prompt[15:]


def test_another_conversation_leaves_one_alone():
    generators, one, other = kept(), list(range(20)), [0, 1, 2, *range(50, 70)]
    read(generators, one)
    assert read(generators, other) == other
    assert read(generators, [*one, 7, 8]) == [7, 8]
    assert read(generators, [*other, 7, 8]) == [7, 8]
    assert read(generators, one, key="b") == one
    assert read(generators, [5, 6]) == [5, 6]


def test_the_conversation_that_shares_most_is_gone_on_with():
    generators, prompt = kept(), list(range(20))
    read(generators, prompt[:10])
    with generators.using("a", prompt, 30, Reader):
        read(generators, prompt)
    assert read(generators, [*prompt, 7, 8]) == [7, 8]


def test_one_that_outgrows_its_room_is_read_into_twice_as_much():
    generators, prompt = kept(), list(range(200))
    read(generators, prompt)
    assert generators.room == 256
    assert read(generators, prompt, length=300) == prompt
    assert generators.room == 256 + 512
    assert read(generators, prompt, length=400) == prompt[-2:]


def test_the_memory_is_bounded_and_what_was_used_last_stays():
    generators = kept(most=600, longest=300)
    prompts = [[index] * 20 for index in range(3)]
    for prompt in prompts:
        read(generators, prompt)
        assert generators.room <= 600
    assert read(generators, prompts[0]) == prompts[0]
    assert len(read(generators, prompts[2])) == 2
    assert generators.room == 512
    read(generators, [9] * 20, length=300)
    assert generators.room == 556
    none = kept(most=0)
    read(none, prompts[0])
    assert none.room == 0


def test_what_is_not_to_be_kept_has_the_room_that_it_needs():
    generators = kept()
    with generators.using(None, [1, 2], 7, Reader) as held:
        assert held.generator.room == 7
    assert generators.room == 0


def test_one_that_failed_is_not_used_again():
    generators = kept()

    def failing() -> None:
        with generators.using("a", [1, 2], 7, Reader):
            raise RuntimeError("the runtime fails")

    with pytest.raises(RuntimeError, match="the runtime fails"):
        failing()
    assert generators.room == 0


def test_one_whose_client_goes_has_read_what_it_has_read():
    generators, prompt = kept(), list(range(40))

    def turns():
        with generators.using("a", prompt, 50, Reader) as held:
            for part in held.parts(prompt, 16):
                held.generator.tokens += part
                yield

    begun = turns()
    for _ in range(3):
        next(begun)
    begun.close()
    assert read(generators, prompt) == prompt[32:]


def test_those_of_an_adapter_that_is_gone_are_forgotten_and_not_kept_again():
    gone = set()
    generators = kept(unwanted=gone.__contains__)
    read(generators, [1] * 20, key="a")
    read(generators, [1] * 20, key="b")
    with generators.using("b", [1] * 20, 30, Reader):
        gone.update("ab")
        generators.forget()
        assert generators.room == 0
    assert generators.room == 0
