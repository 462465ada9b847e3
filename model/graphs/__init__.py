"""Networks as graphs that onnxruntime computes on CPUs, in float32 or in 8 bits.

MLX defines every network and computes it on GPUs. On a CPU the same weights are laid out as ONNX graphs, built in
memory when a model is loaded:

- `onnx_format` writes the messages of the format,
- `builder` puts operators and weights together,
- `program` hands a finished graph to onnxruntime and runs it,
- `workers` spreads independent work over the CPUs.
"""
