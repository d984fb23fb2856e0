// Ask a package with one of its adapters on a device: dotnet run PACKAGE ADAPTER QUESTION
// It needs the NuGet package Microsoft.ML.OnnxRuntimeGenAI alone. Verify the package first: `make verify-package`.
using System.Text.Json.Nodes;
using Microsoft.ML.OnnxRuntimeGenAI;

// Before the runtime is loaded: nothing is told to its makers.
Environment.SetEnvironmentVariable("ORT_DISABLE_TELEMETRY", "1");
var (package, name, question) = (args[0], args[1], args[2]);
var folder = Path.Combine(package, "adapters", name);
var adapter = JsonNode.Parse(File.ReadAllText(Path.Combine(folder, "adapter.json")))!;
var given = adapter["generation"]!;

using var handle = new OgaHandle();
using var model = new Model(package);
using var tokenizer = new Tokenizer(model);
using var adapters = new Adapters(model);
adapters.LoadAdapter(Path.Combine(folder, "adapter.onnx_adapter"), name);

var template = adapter["template"]!.GetValue<string>().Split("{response}")[0];
using var prompt = tokenizer.Encode(template.Replace("{prompt}", question));
using var parameters = new GeneratorParams(model);
parameters.SetSearchOption("do_sample", false);
parameters.SetSearchOption("repetition_penalty", given["repetition_penalty"]!.GetValue<double>());
parameters.SetSearchOption("max_length", prompt[0].Length + given["max_new_tokens"]!.GetValue<int>());
if (adapter["response_schema"] is JsonObject schema)
    parameters.SetGuidance("json_schema", schema.ToJsonString());
using var generator = new Generator(model, parameters);
generator.SetActiveAdapter(adapters, name);
generator.AppendTokenSequences(prompt);
using var stream = tokenizer.CreateStream();
while (!generator.IsDone())
{
    generator.GenerateNextToken();
    Console.Write(stream.Decode(generator.GetSequence(0)[^1]));
}
Console.WriteLine();
