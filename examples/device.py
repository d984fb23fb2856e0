"""Ask a package with one of its adapters on a device: python device.py PACKAGE ADAPTER QUESTION

It needs onnxruntime-genai alone (`pip install onnxruntime-genai`). Verify the package first: `make verify-package`.
"""

import json
import os
import sys
from pathlib import Path

# Before the import: nothing is told to the runtime's makers.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
import onnxruntime_genai as og

package, name, question = Path(sys.argv[1]), *sys.argv[2:4]
adapter = json.loads((package / "adapters" / name / "adapter.json").read_text(encoding="utf-8"))
given = adapter["generation"]

model = og.Model(str(package))
tokenizer = og.Tokenizer(model)
adapters = og.Adapters(model)
adapters.load(str(package / "adapters" / name / "adapter.onnx_adapter"), name)

prompt = tokenizer.encode(adapter["template"].partition("{response}")[0].replace("{prompt}", question))
params = og.GeneratorParams(model)
params.set_search_options(
    do_sample=False, repetition_penalty=given["repetition_penalty"], max_length=len(prompt) + given["max_new_tokens"]
)
if adapter["response_schema"]:
    params.set_guidance("json_schema", json.dumps(adapter["response_schema"]))
generator = og.Generator(model, params)
generator.set_active_adapter(adapters, name)
generator.append_tokens(prompt)
stream = tokenizer.create_stream()
while not generator.is_done():
    generator.generate_next_token()
    print(stream.decode(generator.get_next_tokens()[0]), end="", flush=True)
print()
