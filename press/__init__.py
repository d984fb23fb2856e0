"""What stages and passes share: parameter types, file helpers, checkpoint loading."""

import os

# Without it ONNX Runtime tells Microsoft what it runs, and on what, from its import on (its Privacy.md).
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
