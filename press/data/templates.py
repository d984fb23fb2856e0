"""The text template that turns one line of a data set into what the model reads and writes.

A template names the fields of the line in braces and must end with the answer and what closes it:
`<|im_start|>user\\n{prompt}<|im_end|>\\n<|im_start|>assistant\\n{response}<|im_end|>`.
"""

import string

RESPONSE = "response"
# In place of a template: the base model's own chat template.
CHAT = "chat"


def fields(template: str) -> list[str]:
    """Return the field names of a template in their order, or raise ValueError where it is malformed."""
    try:
        parts = list(string.Formatter().parse(template))
    except ValueError as error:
        raise ValueError(f"template is malformed ({error}); write {{{{ and }}}} for plain braces") from error
    if any(conversion or spec for _, _, spec, conversion in parts):
        raise ValueError("template may name fields only as {field}, without a format or conversion")
    return [name for _, name, _, _ in parts if name is not None]


def names(template: str) -> tuple[str, ...]:
    """Return the field names of an adapter's own template; none if it takes the chat template."""
    return () if template == CHAT else tuple(fields(template))


def check_template(template: str) -> None:
    """Raise ValueError unless `{response}` is the template's last field and named once."""
    field_names = fields(template)
    if "\0" in template:
        raise ValueError("template has the character U+0000, at which a device cuts a text off")
    for name in field_names:
        if not name.isidentifier():
            raise ValueError(f"template has the field {{{name}}}, which is not a name")
    # The text is counted too, since `render` splits there: {{response}} would be a second one.
    once = field_names.count(RESPONSE) == template.count(f"{{{RESPONSE}}}") == 1
    if not once or field_names[-1] != RESPONSE or len(field_names) < 2:
        raise ValueError("template must name {response} once, as its last field, after at least one other field")


def render(template: str, values: dict[str, str]) -> tuple[str, str]:
    """Return what the model is given (all before the answer) and what it has to write (the answer, closed)."""
    before, after = template.split("{" + RESPONSE + "}")
    return before.format(**values), values[RESPONSE] + after.format()


def literals(template: str) -> list[str]:
    """Return a template's own texts: before, between and behind its fields."""
    texts = [""]
    for text, name, *_ in string.Formatter().parse(template):
        texts[-1] += text
        if name is not None:
            texts.append("")
    return texts


def answer(template: str, completion: str) -> str:
    """Return the answer in what a model has to write, without the template's text behind it."""
    _, after = template.split("{" + RESPONSE + "}")
    return completion.removesuffix(after.format())


def given(template: str, prompt: str) -> str:
    """Return what the fields put into a prompt, without the template's text before the first and after the last."""
    before, _ = template.split("{" + RESPONSE + "}")
    parts = list(string.Formatter().parse(before))
    places = [index for index, part in enumerate(parts) if part[1] is not None]
    start = "".join(text for text, *_ in parts[: places[0] + 1])
    end = "".join(text for text, *_ in parts[places[-1] + 1 :])
    return prompt.removeprefix(start).removesuffix(end)
