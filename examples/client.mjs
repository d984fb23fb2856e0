// Ask a server (`make serve`) with an adapter: node client.mjs URL MODEL QUESTION
// It needs the npm package openai alone: onnxruntime-genai has none, so that a device asks a server on itself.
import OpenAI from "openai";

const [url, model, question] = process.argv.slice(2);
const client = new OpenAI({baseURL: `${url}/v1`, apiKey: process.env.OLIVE_PRESS_API_KEY ?? "none", maxRetries: 0});
const stream = await client.chat.completions.create({
    model,
    messages: [{role: "user", content: question}],
    stream: true,
    stream_options: {include_usage: true}
});
for await (const chunk of stream) {
    process.stdout.write(chunk.choices[0]?.delta.content ?? "");
    if (chunk.usage)
        process.stderr.write(`${chunk.usage.completion_tokens} tokens\n`);
}
process.stdout.write("\n");
