"""Networks in ONNX files: `onnx:FILE`.

    load_onnx      load_onnx: the module of a file and the preprocessing of its images
    model_file     reads a file and checks what it says of its sizes, inputs and other files
    graph_tensors  every tensor of a graph, those in settings of operations and in inner graphs included
    onnx_module    the graph as a module, with one part for each value: its layers
    graph_nodes    these parts; each is checked against ONNX Runtime
    translation    operation -> PyTorch operations
    run_node       runs one operation in ONNX Runtime: those without translation, and to check the others
    runtime        opens a graph in ONNX Runtime

Layout and receptive field come from the tracer, which sees the PyTorch operations of the module.
"""
