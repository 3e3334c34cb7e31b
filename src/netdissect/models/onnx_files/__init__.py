"""Networks in ONNX files: `onnx:FILE`.

    model_file    reads a file and checks what it says of its sizes, inputs and other files
    translation   operation -> PyTorch operations
    onnx_module   the graph as a module, with one part for each value: its layers
    run_node      runs one operation in ONNX Runtime: those without translation, and to check the others
    onnx_network  the network, which ONNX Runtime runs on a CPU

Layout and receptive field come from the tracer, which sees the PyTorch operations of the module.
"""
