"""How each tensor operation changes from where on the image the elements of a tensor come.

    op_call        one operation as it ran, with the layouts of its inputs
    propagate      operation, layouts of its inputs -> SpatialLayout, UnknownLayout or None of each output
    rearrange      operations that only move elements: applied to the codes, too
    elementwise    operations that work cell by cell; gates; the order of units
    concatenate    concatenations of units, tokens or pieces of a map
    products       matrix products and linear layers
    attention      attention and recurrent layers
    windows        fields of windows over rows and columns
    convolution    convolutions
    pooling        pooling and unpooling
    interpolation  upsampling and downsampling

Operations are named as ATen's dispatcher names them, an in-place one as its plain form. An operation without a rule
makes the layout unknown: nothing is guessed.
"""
