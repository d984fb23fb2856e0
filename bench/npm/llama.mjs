// A contestant's process: a GGUF model run by llama.cpp on the CPU. One JSON request a line on stdin, one JSON answer a
// line on stdout, as bench/runtime/worker.py says.

import {createInterface} from "node:readline";
import {getLlama, LlamaLogLevel} from "node-llama-cpp";

const options = JSON.parse(process.argv[2]);
const say = (answer) => process.stdout.write(JSON.stringify(answer) + "\n");
const seconds = (from, to) => (to - from) / 1000;

const llama = await getLlama({
    build: "never", gpu: false, maxThreads: options.threads, logLevel: LlamaLogLevel.error, progressLogs: false
});
const start = performance.now();
const model = await llama.loadModel({modelPath: options.model});
const context = await model.createContext({
    contextSize: options.context,
    batchSize: options.batch,
    flashAttention: options.flash_attention,
    threads: {ideal: options.threads, min: options.threads}
});
const sequence = context.getSequence();
say({load_s: seconds(start, performance.now())});

/** Decode `tokens` tokens greedily after the first, behind the prompt `ids`; answer in seconds. */
async function generate({ids, tokens}) {
    await sequence.clearHistory();
    const start = performance.now();
    const results = sequence.evaluate(ids, {temperature: 0, yieldEogToken: true});
    await results.next();
    const first = performance.now();
    for (let token = 0; token < tokens; token++)
        await results.next();
    const end = performance.now();
    await results.return();
    return {ttft_s: seconds(start, first), prompt_s: seconds(start, first), decode_s: seconds(first, end)};
}

/** Sum the negative log-likelihood of `ids` after the first, in nats. */
async function score({ids}) {
    await sequence.clearHistory();
    let loss = 0;
    const wanted = ids.slice(0, -1).map((id) => [id, {generateNext: {probabilities: true, options: {temperature: 0}}}]);
    // One piece at a time: each token brings the probabilities of the whole vocabulary.
    for (let from = 0; from < wanted.length; from += 16) {
        const results = await sequence.controlledEvaluate(wanted.slice(from, from + 16));
        results.forEach((result, index) => {
            loss -= Math.log(result.next.probabilities.get(ids[from + index + 1]));
        });
    }
    return {loss};
}

const answers = {generate, score};
for await (const line of createInterface({input: process.stdin})) {
    const request = JSON.parse(line);
    say(await answers[request.do](request));
}
process.exit(0);
