"""A chat with words that stand for what it says: by these it is told what a chat template leaves out of its text."""

from typing import Any

from press.data.formats import Chat

MESSAGE, TOOL = "olive0press0message0{}0", "olive0press0tool0"
UNSAID = "the base model's chat template leaves out {what}: leave it out of the data, or take a base model that has it"


def of(said: Chat) -> Chat:
    """Return a chat of the same shape: each message says a word of its own, and all tools have one name."""
    messages = []
    for number, each in enumerate(said.messages, start=1):
        bare = {**each, "content": MESSAGE.format(number) if each["content"] else ""}
        if calls := each.get("tool_calls"):
            bare["tool_calls"] = [_renamed(call) for call in calls]
        messages.append(bare)
    return Chat(messages, [_renamed(tool) for tool in said.tools])


def complaint(bare: Chat, text: str) -> str | None:
    """Return what is wrong with the text of a chat of stand-ins, or None.

    What the assistant says beside a call of a tool is a thought to some templates, which leave it out of what is past.
    """
    for number, each in enumerate(bare.messages, start=1):
        if each["content"] not in text and not each.get("tool_calls"):
            return UNSAID.format(what=f"what the {each['role']} says in message {number}")
    named = str([*bare.tools, *(call for each in bare.messages for call in each.get("tool_calls", ()))]).count(TOOL)
    return UNSAID.format(what="the tools or their calls") if text.count(TOOL) < named else None


def _renamed(tool: Any) -> Any:
    """Return a tool, or a call of one, with the word for a name; it stands in its function, or in itself."""
    if not isinstance(tool, dict):
        return tool
    if isinstance(tool.get("function"), dict):
        return {**tool, "function": _renamed(tool["function"])}
    return {**tool, "name": TOOL} if "name" in tool else tool
