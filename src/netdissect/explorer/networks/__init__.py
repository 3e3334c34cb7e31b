"""What the explorer does with the networks of its runs, besides recording activations."""
