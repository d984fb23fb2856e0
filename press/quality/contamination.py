"""Documents of tasks that an adapter was nearly trained on, so that its score tells what it knows by heart."""

from collections.abc import Iterable

from press.core import files, paths
from press.data import jsonl, nearness, strict_json, templates


def prompts(adapter: str) -> set[str]:
    """Return what each prompt that an adapter was trained on has in common with those that are nearly the same.

    Each counts as the model was given it, and without the text of its template.
    """
    folder = paths.PREPARED / adapter
    template = files.read_json(folder / paths.ADAPTER_MANIFEST)["template"]
    rows = jsonl.Rows(folder / paths.TRAIN)
    given = (rows[index]["prompt"] for index in range(len(rows)))
    return {nearness.nearly(text) for prompt in given for text in (prompt, templates.given(template, prompt))}


def count(documents: Iterable[object], trained: set[str]) -> int:
    """Return how many documents have a text that is nearly a prompt.

    :param trained: what `prompts` returns
    """
    return sum(
        any(nearness.nearly(text) in trained for text in strict_json.texts(document) if text) for document in documents
    )
