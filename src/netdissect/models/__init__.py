"""What a unit is: loading a network, its layers, their geometry, and recording their activations."""
