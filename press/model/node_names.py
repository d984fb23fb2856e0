"""The names that onnxruntime-genai's model builder gives to the nodes of its graphs."""

import re

# What looks tokens up and what makes logits: the folders of their nodes, and their nodes where weights are floats.
EMBEDDING, HEAD = "/model/embed_tokens", "/lm_head"
EMBEDDING_IN_FLOATS, HEAD_IN_FLOATS = f"{EMBEDDING}/Gather", f"{HEAD}/MatMul"
HEAD_IN_BLOCKS = f"{HEAD}/MatMulNBits"
# A layer's linear projection: the layer's number, its part and the module's name.
PROJECTION = re.compile(r"/model/layers\.(\d+)/(attn|conv|linear_attn|mamba|mlp)/(\w+_proj|fc1|fc2)/MatMul\w*")
