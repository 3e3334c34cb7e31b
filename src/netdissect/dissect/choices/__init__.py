"""What a run chooses by measuring, once, before its first batch: batch size and backend of the forward pass."""
