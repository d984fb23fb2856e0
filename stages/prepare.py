"""Validate, tokenize and split an adapter's data set.

in:  adapters.ADAPTER.{data,format,fields,template,turns,max_seq_len,too_long,control_tokens,heldout,heldout_examples,
     response_schema,thinking,samples,generation}, base.trust_remote_code (reports/params.json); models/base (tokenizer,
     generation config)
out: prepared/ADAPTER/{train,heldout}.jsonl and adapter.json; a report under reports/prepare/ADAPTER
"""

import os
from pathlib import Path

from press.core import cli, files, nested, paths
from press.data import jsonl, records
from press.model import checkpoints, decoding, device_tokenizer
from press.params import settings
from press.training import asking, preparation, preparation_report


def main(adapter: str) -> None:
    # Nothing is forked here: many lines at once are read by all cores, and into the same tokens.
    os.environ["TOKENIZERS_PARALLELISM"] = "true"
    project = settings.checked()
    params = project.adapter(adapter)
    asking.check_context(adapter, params.max_seq_len)
    own = nested.in_order(params.generation.model_dump())
    generation = decoding.settings(own, paths.BASE, f"adapters.{adapter}.generation")
    asking.check_top_k(adapter, generation["top_k"])
    tokenizer = checkpoints.tokenizer(paths.BASE, project.base.trust_remote_code)
    asking.settle_thinking(adapter, params, tokenizer)
    device = device_tokenizer.Device(tokenizer)
    with files.replaced(paths.PREPARED / adapter) as building:
        with jsonl.writing(building / paths.TRAIN) as train, jsonl.writing(building / paths.HELDOUT) as heldout:
            prepared = preparation.Prepared(train, heldout)
            preparation.prepare(params, tokenizer, checkpoints.eos_ids(paths.BASE), prepared, device)
        samples = asking.render_samples(asking.as_read(params, tokenizer), prepared.template)
        asking.check_samples(adapter, params, (len(device.encode(text)) for text in samples))
        device_tokenizer.check(device.encode, tokenizer, samples)
        files.write_json(
            building / paths.ADAPTER_MANIFEST,
            {
                "template": prepared.template,
                **({"turn": prepared.turn} if prepared.turn else {}),
                "samples": samples,
                "response_schema": asking.decodable_schema(params, prepared.template, building / paths.TRAIN),
                "generation": generation,
                **({"control_tokens": params.control_tokens} if params.control_tokens != "refuse" else {}),
                "data_sha256": records.digest(Path(params.data)),
            },
        )
    with files.replaced(paths.PREPARATIONS / adapter) as building:
        preparation_report.write(prepared, building)
    for sentence in preparation_report.sentences(adapter, prepared):
        print(sentence)


if __name__ == "__main__":
    cli.run(main)
