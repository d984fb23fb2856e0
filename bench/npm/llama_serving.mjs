// Many clients of llama.cpp's library at once: each model (bare, or with a LoRA) is a context of its own on one loaded
// model, as a LoRA is a context's here, and each client has a sequence in each. Requests with the same LoRA are batched;
// contexts compute side by side, with a thread each, where its server has one context that computes one batch after the
// other. It measures what bench/serving.py's clients do, and says that as one line of JSON.

import {getLlama, LlamaLogLevel} from "node-llama-cpp";

const options = JSON.parse(process.argv[2]);
const llama = await getLlama({
    build: "never", gpu: false, maxThreads: options.threads, logLevel: LlamaLogLevel.error, progressLogs: false
});
const model = await llama.loadModel({modelPath: options.model});
const contexts = [];
for (const lora of options.loras)
    contexts.push(await model.createContext({
        contextSize: options.context,
        sequences: options.clients,
        threads: {ideal: options.threads, min: 1},
        ...(lora ? {lora: {adapters: [{filePath: lora, scale: 1}]}} : {})
    }));
const sequences = contexts.map((context) => Array.from({length: options.clients}, () => context.getSequence()));
const first = [], between = [];
let tokens = 0;

/** Answer one question, and measure it as the client of a stream does. */
async function ask(sequence, ids) {
    // As its server keeps the beginning that a prompt shares with the one before; one token has to be read at least.
    await sequence.adaptStateToTokens(ids.slice(0, -1), false);
    let last = performance.now(), seen = 0;
    for await (const _ of sequence.evaluate(ids.slice(sequence.nextTokenIndex), {temperature: 0})) {
        const now = performance.now();
        (seen++ ? between : first).push((now - last) / 1000);
        last = now;
        tokens++;
        if (seen === options.tokens)
            break;
    }
}

/** Ask one question after the other, each of the next model. */
async function client(number) {
    for (let place = number; place < number + options.requests; place++) {
        const which = place % contexts.length;
        await ask(sequences[which][number], options.prompts[which][place % options.prompts[which].length]);
    }
}

const began = performance.now();
await Promise.all(Array.from({length: options.clients}, (_, number) => client(number)));
const seconds = (performance.now() - began) / 1000;
process.stdout.write(JSON.stringify({first, between, tokens, seconds, memory: process.memoryUsage.rss() >> 20}) + "\n");
process.exit(0);
