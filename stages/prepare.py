"""Validate, tokenize and split an adapter's data set.

in:  adapters.ADAPTER.{data,template,max_seq_len,too_long,heldout,response_schema,samples,generation},
     base.trust_remote_code (params.yaml), models/base (tokenizer, generation config)
out: prepared/ADAPTER/{train,heldout}.jsonl and adapter.json; a report under reports/prepare/ADAPTER
"""

from pathlib import Path

from press.core import cli, files, nested, paths
from press.data import examples, jsonl
from press.model import checkpoints, decoding, device_tokenizer
from press.params import settings
from press.training import preparation, preparation_report


def main(adapter: str) -> None:
    project = settings.load()
    params = project.adapter(adapter)
    preparation.check_context(adapter, params.max_seq_len)
    samples = preparation.render_samples(params)
    own = nested.in_order(params.generation.model_dump())
    generation = decoding.settings(own, paths.BASE, f"adapters.{adapter}.generation")
    tokenizer = checkpoints.tokenizer(paths.BASE, project.base.trust_remote_code)
    result = preparation.prepare(params, tokenizer, checkpoints.eos_ids(paths.BASE))
    texts = samples + examples.texts(result.train + result.heldout)
    device_tokenizer.check(device_tokenizer.before_capture(tokenizer), tokenizer, texts)
    with files.replaced(paths.PREPARED / adapter) as building:
        jsonl.write(building / paths.TRAIN, result.train)
        jsonl.write(building / paths.HELDOUT, result.heldout)
        files.write_json(
            building / paths.ADAPTER_MANIFEST,
            {
                "template": params.template,
                "samples": samples,
                "response_schema": preparation.decodable_schema(params, result),
                "generation": generation,
                "data_sha256": files.sha256(Path(params.data)),
            },
        )
    with files.replaced(paths.PREPARATIONS / adapter) as building:
        preparation_report.write(result, building)
    left_out = len(result.rejects) + result.duplicates
    print(
        f"{adapter}: {len(result.train)} to train, {len(result.heldout)} held out, {left_out} left out, "
        f"{result.truncated} truncated"
    )


if __name__ == "__main__":
    cli.run(main)
