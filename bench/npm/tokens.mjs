// What llama.cpp makes of texts: GGUF files as arguments, a JSON list of texts on stdin, and on stdout a JSON list with an
// object for each file, of the tokens of each text and the tokens that end an answer; null for a file that it refuses.

import {text} from "node:stream/consumers";
import {getLlama, LlamaLogLevel} from "node-llama-cpp";

const llama = await getLlama({build: "never", gpu: false, logLevel: LlamaLogLevel.error, progressLogs: false});
const texts = JSON.parse(await text(process.stdin));
const answers = [];
for (const modelPath of process.argv.slice(2)) {
    try {
        const model = await llama.loadModel({modelPath, vocabOnly: true});
        const tokens = texts.map((each) => model.tokenize(each, true));
        const ends = [...model.iterateAllTokens()].filter((token) => model.isEogToken(token));
        answers.push({tokens, ends});
        await model.dispose();
    } catch (error) {
        answers.push(null);
    }
}
await new Promise((written) => process.stdout.write(JSON.stringify(answers), written));
process.exit(0);
