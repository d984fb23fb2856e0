"""llama.cpp's own server, until it is terminated; its address is the first line of what it prints.

Runs in an environment of its own (bench/llama_server.txt), started by bench.serving:

    python bench/llama_server.py GGUF --lora ADAPTER.gguf … --clients 4 --context 256 --threads 2
"""

import argparse
import signal

import xllamacpp


def main() -> None:
    """Serve a model with adapters, none of which is applied unless a request says so."""
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("--lora", nargs="*", default=[])
    parser.add_argument("--clients", type=int, required=True)
    parser.add_argument("--context", type=int, required=True, help="tokens of each client")
    parser.add_argument("--threads", type=int, required=True)
    words = parser.parse_args()
    params = xllamacpp.CommonParams()
    params.model.path = words.model
    params.n_parallel, params.n_ctx = words.clients, words.clients * words.context
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = words.threads
    params.port = 0
    params.lora_init_without_apply = True
    loras = []
    for path in words.lora:
        lora = xllamacpp.CommonAdapterLoraInfo()
        lora.path, lora.scale = path, 1.0
        loras.append(lora)
    params.lora_adapters = loras
    server = xllamacpp.Server(params)
    print(server.listening_address, flush=True)
    signal.pause()


if __name__ == "__main__":
    main()
